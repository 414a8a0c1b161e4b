//! How well recall finds one thing among a hundred sessions, and what a killed writer leaves behind.
//!
//! The corpus is made here from a seed: about 2 MB in a hundred sessions, fed in pairs of turns as the daemon does.
//! It is meant to be hard in the way real history is: the filler is made of the same words as the planted facts, and
//! each fact has imitations in other sessions that share four of its words.

use chrono::{DateTime, Duration, Utc};
use moon::adapters::fts::FtsIndex;
use moon_actors::domain::{Role, Sha256, Turn};
use moon_actors::port::{IndexDoc, Query, SearchIndex, SegmentName};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

const SESSIONS: usize = 100;
const PAIRS: usize = 30;

/// Said once in one session, and asked for in five ways.
struct Fact {
    said: &'static str,
    keywords: &'static str,
    question: &'static str,
    misspelt: &'static str,
    paraphrase: &'static str,
    /// In a tool's output of the same session, and how somebody asks for it.
    output: &'static str,
    identifier: &'static str,
}

#[rustfmt::skip]
const FACTS: [Fact; 20] = [
    Fact { said: "We settled on a lease of ninety seconds for the scheduler, because shorter ones expired during \
        garbage collection.",
        keywords: "scheduler lease ninety seconds",
        question: "Why did we settle on ninety seconds for the scheduler lease?",
        misspelt: "schedular lease ninty seconds",
        paraphrase: "how long may the job runner hold its lock before it expires",
        output: "thread panicked at src/lease/renewal.rs:88: expired", identifier: "src/lease/renewal.rs" },
    Fact { said: "The invoice export must round every tax amount half to even, the auditor insisted on that.",
        keywords: "invoice export round tax auditor",
        question: "What did the auditor insist on for the invoice export?",
        misspelt: "invioce export rounding auditer", paraphrase: "banker's method in accounting documents",
        output: "FAILED billing::export::rounds_half_even", identifier: "billing::export::rounds_half_even" },
    Fact { said: "Marta broke her wrist while skiing in Zakopane, so Tobias takes the release this week.",
        keywords: "Marta wrist skiing Tobias release", question: "Who takes the release because Marta broke her wrist?",
        misspelt: "Marta wirst skeing Zakopane",
        paraphrase: "colleague injured on holiday, who does the release instead",
        output: "assigned RELEASE-2291 to tobias", identifier: "RELEASE-2291" },
    Fact { said: "The thermostat in the greenhouse drops offline whenever the irrigation pump starts, it is a \
        grounding fault.",
        keywords: "thermostat greenhouse irrigation pump grounding",
        question: "What happens to the greenhouse thermostat when the pump starts?",
        misspelt: "thermostadt greenhose irigation", paraphrase: "sensor loses its connection when watering plants",
        output: "mqtt: lost greenhouse/sensor-7f3a/temperature", identifier: "greenhouse/sensor-7f3a/temperature" },
    Fact { said: "Uploads over forty megabytes fail behind the proxy since it buffers the whole body; streaming \
        fixed it.",
        keywords: "uploads forty megabytes proxy streaming",
        question: "Why do uploads over forty megabytes fail behind the proxy?",
        misspelt: "uplods megabites proxi streaming",
        paraphrase: "sending big files through the gateway or proxy breaks",
        output: "nginx: client_max_body_size exceeded", identifier: "client_max_body_size" },
    Fact { said: "The landlord agreed to replace the boiler before October if we sign for two more years.",
        keywords: "landlord boiler October two years",
        question: "What did the landlord agree to replace before October?",
        misspelt: "landlrod boilar October", paraphrase: "heating renewal in exchange for staying in the flat",
        output: "saved letters/tenancy-2031-04.pdf", identifier: "letters/tenancy-2031-04.pdf" },
    Fact { said: "Customers in Norway were charged twice because the webhook was retried after a timeout without an \
        idempotency key.",
        keywords: "Norway charged twice webhook idempotency", question: "Why were customers in Norway charged twice?",
        misspelt: "Norwey charged twice idempotancy webhok", paraphrase: "duplicate payments in Scandinavia",
        output: "POST /v2/payments/capture?attempt=2 409", identifier: "/v2/payments/capture?attempt=2" },
    Fact { said: "The parser treats a lone carriage return as a line break, which doubles the rows of old \
        spreadsheets.",
        keywords: "parser carriage return doubles rows spreadsheets",
        question: "What does the parser do with a lone carriage return?",
        misspelt: "parser cariage return doubels spreadsheets",
        paraphrase: "legacy newline handling duplicates table lines",
        output: "warning: csv::Terminator::CRLF is deprecated", identifier: "csv::Terminator::CRLF" },
    Fact { said: "Grandmother's plum cake needs the oven at a hundred and seventy degrees and no fan, otherwise the \
        crust cracks.",
        keywords: "plum cake oven degrees crust", question: "At how many degrees does the plum cake go into the oven?",
        misspelt: "plumm cake ovan degrees crusst", paraphrase: "baking temperature of the family dessert",
        output: "note stored as recipes/plum_cake_v3.md", identifier: "recipes/plum_cake_v3.md" },
    Fact { said: "The compass on the rover reads eleven degrees off near the battery, so the firmware now subtracts \
        a calibration table.",
        keywords: "compass rover battery calibration firmware",
        question: "Why does the rover firmware subtract a calibration table?",
        misspelt: "compas rover calibratoin firmwear", paraphrase: "magnetic heading is wrong beside the battery pack",
        output: "flash ok: rover-fw_1.18.4-rc2.bin", identifier: "rover-fw_1.18.4-rc2.bin" },
    Fact { said: "Search on the shop became slow after the synonym file grew; loading it once per request was the \
        culprit.",
        keywords: "shop search slow synonym file request",
        question: "What was the culprit when search on the shop became slow?",
        misspelt: "shop serach slow synonim culprit",
        paraphrase: "product lookup performance regression from thesaurus",
        output: "Caused by: E_SYN_4417 reload", identifier: "E_SYN_4417" },
    Fact { said: "The choir rehearses in the chapel on Thursdays from now on, since the gymnasium is being painted.",
        keywords: "choir rehearses chapel Thursdays gymnasium",
        question: "Where does the choir rehearse while the gymnasium is being painted?",
        misspelt: "choir rehearsel chappel gymnasium", paraphrase: "singing group moved to another room",
        output: "invited choir-list@example.net to chapel", identifier: "choir-list@example.net" },
    Fact { said: "Backups of the photo archive go to the cold bucket after thirty days, restoring costs four hours.",
        keywords: "backups photo archive cold bucket thirty days",
        question: "After how many days do backups of the photo archive go to the cold bucket?",
        misspelt: "bakcups photo archve bucket", paraphrase: "picture copies are moved to cheap storage",
        output: "s3://moonlit-cold/photos/2030/manifest.json written",
        identifier: "s3://moonlit-cold/photos/2030/manifest.json" },
    Fact { said: "The translator wants a glossary with the gender of each noun before she starts on the Portuguese \
        manual.",
        keywords: "translator glossary gender noun Portuguese manual",
        question: "What does the translator want before the Portuguese manual?",
        misspelt: "tranlator glosary Portugese manual", paraphrase: "linguist asked for a word list",
        output: "created i18n/pt-BR/glossary.toml", identifier: "i18n/pt-BR/glossary.toml" },
    Fact { said: "Memory of the renderer climbs because every canvas keeps its texture; disposing them on scroll \
        halves it.",
        keywords: "renderer memory canvas texture disposing scroll",
        question: "Why does the memory of the renderer climb?",
        misspelt: "rendrer memory canvass textures scrol", paraphrase: "graphics leak when moving down the page",
        output: "leak: Canvas2D#releaseTexture() never called", identifier: "Canvas2D#releaseTexture()" },
    Fact { said: "The harbour office moved our berth to pier nine because the dredger blocks the old one until June.",
        keywords: "harbour berth pier nine dredger June",
        question: "Why did the harbour office move our berth to pier nine?",
        misspelt: "harbor bert pier dregder June", paraphrase: "boat has a new mooring place",
        output: "permit HB-0093/K issued", identifier: "HB-0093/K" },
    Fact { said: "The classifier confuses mushrooms with sea shells when the photo is underexposed, so we normalise \
        the histogram first.",
        keywords: "classifier mushrooms shells underexposed histogram",
        question: "What does the classifier confuse when the photo is underexposed?",
        misspelt: "clasifier mushroms shells underexpozed", paraphrase: "dark photos lead to wrong fungus recognition",
        output: "epoch 12 checkpoint fungi-resnet_0x9af2.pt", identifier: "fungi-resnet_0x9af2.pt" },
    Fact { said: "Login with the hardware token failed on the new laptops as the udev rule for the vendor was missing.",
        keywords: "login hardware token laptops udev rule",
        question: "Why did login with the hardware token fail on the new laptops?",
        misspelt: "logn hardwear token latops udev", paraphrase: "security key not recognised on recent computers",
        output: "added 70-u2f.rules for idVendor==1050", identifier: "70-u2f.rules" },
    Fact { said: "The orchard loses a third of its blossoms to late frost, therefore Ingrid orders wind machines for \
        April.",
        keywords: "orchard blossoms frost Ingrid wind machines",
        question: "What does Ingrid order against late frost in the orchard?",
        misspelt: "orchrad blosoms frost Ingird machines", paraphrase: "protecting fruit trees from cold nights",
        output: "order WM/2031/APR-5 confirmed", identifier: "WM/2031/APR-5" },
    Fact { said: "The queue stalls when a poisoned message is at its head; it is parked after five deliveries now.",
        keywords: "queue stalls poisoned message parked deliveries",
        question: "After how many deliveries is a poisoned message parked?",
        misspelt: "queu stalls poisned mesage parked", paraphrase: "broker blocked by an event nobody can process",
        output: "x-death-count header missing in amqp.rs", identifier: "x-death-count" },
];

/// A fact in another language: said, keywords, question.
#[rustfmt::skip]
const FOREIGN: [(&str, &str, &str); 10] = [
    ("我们决定把数据库迁移推迟到下个星期三，因为备份还没有验证。", "数据库迁移 推迟", "数据库迁移为什么推迟？"),
    ("仓库里的温度传感器坏了，王工程师明天去更换。", "仓库 温度传感器", "谁去更换温度传感器？"),
    ("会議は来週の火曜日に変更されました。部屋は三階の小会議室です。", "会議 火曜日 変更", "会議は何曜日に変更されましたか"),
    ("新しい検索エンジンは日本語の住所を正しく分割できません。", "検索エンジン 住所 分割", "検索エンジンは何を分割できませんか"),
    ("Die Brücke am Kanal bleibt bis August gesperrt, deshalb fährt der Lieferwagen über Neustadt.",
        "Brücke Kanal gesperrt Lieferwagen", "Warum fährt der Lieferwagen über Neustadt?"),
    ("Der Prüfbericht der Waage fehlt noch, Frau Schröder reicht ihn nächsten Montag nach.",
        "Prüfbericht Waage Schröder", "Wann reicht Frau Schröder den Prüfbericht nach?"),
    ("La chaudière de l'école sera remplacée pendant les vacances de février par une pompe à chaleur.",
        "chaudière école pompe chaleur", "Par quoi la chaudière de l'école sera-t-elle remplacée ?"),
    ("Le fournisseur de câbles a doublé ses délais de livraison à cause de la grève du port.",
        "fournisseur câbles délais grève", "Pourquoi le fournisseur de câbles a-t-il doublé ses délais ?"),
    ("Сервер перезагружается каждую ночь из-за ошибки в драйвере сетевой карты.",
        "сервер перезагружается драйвере", "Почему сервер перезагружается каждую ночь?"),
    ("Бухгалтер попросила перенести отчёт за квартал на пятнадцатое число.",
        "бухгалтер отчёт квартал", "На какое число бухгалтер попросила перенести отчёт?"),
];

/// Said in passing in several sessions: other sentences with words of the foreign facts.
#[rustfmt::skip]
const FOREIGN_FILLER: [&str; 10] = [
    "数据库的备份已经完成。", "传感器的数据写入仓库的表里。", "会議の資料を送りました。", "住所の一覧を更新しました。",
    "Der Lieferwagen steht im Hof.", "Der Bericht kommt am Montag.", "L'école est fermée en août.",
    "Le port et les câbles sont sur la liste.", "Сервер работает нормально.", "Отчёт готов, число строк верное.",
];

const NOUNS: &str = "table report branch ticket module folder dashboard meeting draft customer version window \
    service budget \
    config script cluster review server client method field record letter garden window kitchen plan number list \
    order path";
const VERBS: &str =
    "check move update test read rename merge explain compare remove prepare send open split fix describe measure";
const SENTENCES: [&str; 8] = [
    "I would {v} the {n} first and then look at the {n} again.",
    "The {n} still needs somebody to {v} it before the {n} is done.",
    "Did you {v} the {n}, or is that part of the {n} for tomorrow?",
    "Looking at the {n}: nothing unusual, the {n} and the {n} agree.",
    "We can {v} it later, the {n} matters more than the {n}.",
    "Here is what I found about the {n}: it depends on the {n}.",
    "Please {v} the {n} near the {n} and tell me about the {n}.",
    "That was the {n} from last week, not the {n} of this one.",
];

/// SplitMix64: the same corpus on every machine.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % n as u64) as usize
    }
    fn of<'a>(&mut self, list: &[&'a str]) -> &'a str {
        list[self.below(list.len())]
    }
}

struct Corpus {
    random: Random,
    nouns: Vec<&'static str>,
    verbs: Vec<&'static str>,
    /// The telling words of every fact: filler and imitations are made of them too.
    telling: Vec<Vec<&'static str>>,
}

impl Corpus {
    fn new() -> Self {
        let telling = |f: &Fact| f.said.split(|c: char| !c.is_alphanumeric()).filter(|w| w.len() > 4).collect();
        Self {
            random: Random(2),
            nouns: NOUNS.split_whitespace().collect(),
            verbs: VERBS.split_whitespace().collect(),
            telling: FACTS.iter().map(telling).collect(),
        }
    }

    /// One word in five of the filler belongs to some fact.
    fn noun(&mut self) -> &'static str {
        if self.random.below(5) == 0 {
            let fact = self.random.below(FACTS.len());
            let words = self.telling[fact].clone();
            return self.random.of(&words);
        }
        let nouns = self.nouns.clone();
        self.random.of(&nouns)
    }

    fn sentence(&mut self) -> String {
        let mut sentence = self.random.of(&SENTENCES).to_owned();
        while sentence.contains("{n}") {
            sentence = sentence.replacen("{n}", self.noun(), 1);
        }
        let verbs = self.verbs.clone();
        sentence.replacen("{v}", self.random.of(&verbs), 1)
    }

    fn prose(&mut self, sentences: usize) -> String {
        (0..sentences).map(|_| self.sentence() + " ").collect()
    }

    /// Something else, told with four of the words of a fact.
    fn imitation(&mut self, fact: usize) -> String {
        let mut words = self.telling[fact].clone();
        while words.len() > 4 {
            words.swap_remove(self.random.below(words.len()));
        }
        let noun = self.noun();
        format!("Somebody mentioned {} in passing, but it was about the {noun}. ", words.join(" and "))
    }

    /// What a tool prints: paths and identifiers that resemble the ones asked for.
    fn listing(&mut self, lines: usize) -> String {
        let mut out = String::new();
        for _ in 0..lines {
            let identifier = FACTS[self.random.below(FACTS.len())].identifier;
            let parts: Vec<&str> = identifier.split(|c: char| !c.is_alphanumeric()).filter(|p| !p.is_empty()).collect();
            let (part, noun) = (self.random.of(&parts), self.noun());
            out += &format!("lib/{noun}/{part}.rs:{}: ok {}\n", self.random.below(900), self.random.below(1 << 30));
            // The same beginning, another end.
            let (beginning, _) = identifier.rsplit_once(parts[parts.len() - 1]).expect("the last part is in it");
            out += &format!("{beginning}{}\n", 10_000 + self.random.below(5_000));
        }
        out
    }

    /// The text of all turns of a session.
    fn session(&mut self, number: usize) -> Vec<(Role, String)> {
        let mut turns = Vec::new();
        for pair in 0..PAIRS {
            let sentences = 2 + self.random.below(3);
            turns.push((Role::User, self.prose(sentences)));
            turns.push(if pair % 5 == 4 {
                let lines = 5 + self.random.below(12);
                (Role::Tool, self.listing(lines))
            } else {
                let sentences = 4 + self.random.below(8);
                (Role::Assistant, self.prose(sentences))
            });
        }
        let place = |random: &mut Random| random.below(2 * PAIRS);
        for _ in 0..3 {
            // Of a fact that is told elsewhere.
            let fact = (number + 1 + self.random.below(FACTS.len() - 1)) % FACTS.len();
            let imitation = self.imitation(fact);
            turns[place(&mut self.random)].1 += &imitation;
        }
        let foreign = self.random.of(&FOREIGN_FILLER);
        turns[place(&mut self.random)].1 += foreign;
        if number < FACTS.len() {
            let (said, output) = (place(&mut self.random), place(&mut self.random));
            turns[said].1 += FACTS[number].said;
            turns[output].1 = format!("{}\n{}\n{}", self.listing(3), FACTS[number].output, self.listing(3));
            if said == output {
                turns[said].1 += FACTS[number].said;
            }
        } else if let Some((said, ..)) = FOREIGN.get(number - FACTS.len()) {
            turns[place(&mut self.random)].1 += said;
        }
        turns
    }
}

fn begin() -> DateTime<Utc> {
    DateTime::from_timestamp(1_900_000_000, 0).expect("a time")
}

fn doc(session: &str, ordinal: usize, first_seq: usize, at: DateTime<Utc>, turns: &[(Role, String)]) -> IndexDoc {
    let turns: Vec<Turn> = (first_seq as i64..)
        .zip(turns)
        .map(|(seq, (role, text))| Turn {
            seq,
            at: Some(at + Duration::minutes(seq)),
            role: *role,
            speaker: role.as_str().into(),
            text: text.clone(),
        })
        .collect();
    let segment = Sha256::of(format!("{session} {ordinal}").as_bytes());
    let (session, session_id, ordinal) = (session.into(), "1".into(), ordinal as i64);
    IndexDoc { name: SegmentName { segment, session, session_id, epoch: 0, ordinal }, turns }
}

/// Session names that tell nothing; fact `n` is in session `n`.
fn name(number: usize) -> String {
    format!("agent:main:{number}")
}

#[derive(Default)]
struct Score {
    asked: usize,
    first: usize,
    five: usize,
    /// Questions whose right session was not the first hit, for whoever wants to improve it.
    missed: Vec<String>,
}

impl Score {
    fn r1(&self) -> f64 {
        self.first as f64 / self.asked as f64
    }
    fn r5(&self) -> f64 {
        self.five as f64 / self.asked as f64
    }
}

async fn ask(index: &FtsIndex, text: &str, gold: usize, score: &mut Score) {
    let query = Query { text: text.into(), limit: 5, session: None, since: None };
    let hits = index.search(&query).await.expect("an answer").hits;
    let rank = hits.iter().position(|h| h.session.as_str() == name(gold));
    score.asked += 1;
    score.first += usize::from(rank == Some(0));
    score.five += usize::from(rank.is_some());
    if rank != Some(0) {
        score.missed.push(format!("{rank:?} {text}"));
    }
}

#[tokio::test]
async fn one_fact_among_a_hundred_sessions_is_found_however_it_is_asked_for() {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let index = FtsIndex::open(&scratch.path().join("history.db"), 1_200);
    let mut corpus = Corpus::new();
    let mut bytes = 0;
    for number in 0..SESSIONS {
        let turns = corpus.session(number);
        bytes += turns.iter().map(|(_, text)| text.len()).sum::<usize>();
        for (ordinal, pair) in turns.chunks(2).enumerate() {
            let at = begin() + Duration::hours(7 * number as i64);
            index.put(doc(&name(number), ordinal, 2 * ordinal, at, pair)).await.expect("put");
        }
    }
    assert!((1_500_000..3_000_000).contains(&bytes), "{bytes} bytes");

    let mut scores: BTreeMap<&str, Score> = BTreeMap::new();
    for (number, fact) in FACTS.iter().enumerate() {
        let kinds = [
            ("keywords", fact.keywords),
            ("question", fact.question),
            ("misspelt", fact.misspelt),
            ("paraphrase", fact.paraphrase),
            ("identifier", fact.identifier),
        ];
        for (kind, text) in kinds {
            ask(&index, text, number, scores.entry(kind).or_default()).await;
        }
    }
    for (number, (_, keywords, question)) in (FACTS.len()..).zip(&FOREIGN) {
        ask(&index, keywords, number, scores.entry("foreign keywords").or_default()).await;
        ask(&index, question, number, scores.entry("foreign question").or_default()).await;
    }

    let mut table = format!("{bytes} bytes, {SESSIONS} sessions\n");
    let mut all = Score::default();
    for (kind, score) in &scores {
        table += &format!("{kind:<17} {:>3} asked   r1 {:.3}   r5 {:.3}\n", score.asked, score.r1(), score.r5());
        all.asked += score.asked;
        all.first += score.first;
        all.five += score.five;
    }
    table += &format!("{:<17} {:>3} asked   r1 {:.3}   r5 {:.3}\n", "all", all.asked, all.r1(), all.r5());
    for (kind, score) in &scores {
        table += &score.missed.iter().map(|m| format!("{kind}: {m}\n")).collect::<String>();
    }
    // Shown by `cargo test -- --nocapture`.
    std::io::stdout().write_all(table.as_bytes()).expect("printed");
    assert!(all.r1() >= 0.78 && all.r5() >= 0.83, "{table}");
    assert!(scores["identifier"].r1() >= 1.0, "{table}");
    assert!(scores["misspelt"].r5() >= 0.9, "{table}");
    assert!(scores["foreign keywords"].r5() >= 1.0, "{table}");
}

const KILLED_FOLDER: &str = "MOON_TEST_KILLED_FOLDER";
const KILLS: u64 = 10;

/// Segment `n` of the killed writer: several chunks, with a word of its own at both ends.
fn long_doc(n: usize) -> IndexDoc {
    let filler = "many words about nothing in particular ".repeat(150);
    let turns = [(Role::User, format!("alpha{n} {filler}")), (Role::Tool, format!("{filler} omega{n}"))];
    doc("killed", n, 2 * n, begin(), &turns)
}

/// The child: puts and reports until it is killed.
async fn put_until_killed(folder: &str) -> ! {
    let index = FtsIndex::open(&Path::new(folder).join("history.db"), 1_200);
    let from = index.status().await.expect("a status").segments as usize;
    for n in from.. {
        index.put(long_doc(n)).await.expect("put");
        writeln!(std::io::stdout(), "\nput {n}").expect("reported");
    }
    unreachable!("the parent kills before the numbers end")
}

/// The numbers the child reported before it was killed, the whole of the last line only.
fn run_and_kill(folder: &Path, round: u64) -> Vec<usize> {
    let mut child = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "a_killed_writer_loses_nothing_it_reported", "--nocapture"])
        .env(KILLED_FOLDER, folder)
        .stdout(Stdio::piped())
        .spawn()
        .expect("a child");
    let mut output = BufReader::new(child.stdout.take().expect("piped"));
    let mut reported = Vec::new();
    let mut line = String::new();
    while output.read_line(&mut line).expect("readable") > 0 {
        if let Some(n) = line.strip_suffix('\n').and_then(|l| l.strip_prefix("put ")) {
            reported.push(n.parse().expect("a number"));
        }
        if reported.len() as u64 == 3 + round % 4 {
            // Somewhere inside the next put, elsewhere each round.
            std::thread::sleep(std::time::Duration::from_micros(700 * round));
            child.kill().expect("killed");
        }
        line.clear();
    }
    child.wait().expect("gone");
    reported
}

#[tokio::test]
async fn a_killed_writer_loses_nothing_it_reported() {
    if let Ok(folder) = std::env::var(KILLED_FOLDER) {
        put_until_killed(&folder).await;
    }
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let mut reported = Vec::new();
    for round in 0..KILLS {
        reported.extend(run_and_kill(scratch.path(), round));
    }
    let path = scratch.path().join("history.db");
    let index = FtsIndex::open(&path, 1_200);
    let there = index.status().await.expect("a status").segments as usize;
    assert!(reported.len() >= 3 * KILLS as usize, "the children worked: {}", reported.len());
    assert!(there >= reported.len(), "{there} segments, {} reported", reported.len());
    for n in reported {
        assert_eq!(index.contains(&long_doc(n).name).await, Ok(true), "segment {n} was reported");
    }
    for n in 0..there {
        let expected = [(format!("alpha{n}"), 2 * n as i64), (format!("omega{n}"), 2 * n as i64 + 1)];
        for (word, seq) in expected {
            let query = Query { text: word.clone(), limit: 1, session: None, since: None };
            let hits = index.search(&query).await.expect("an answer").hits;
            assert_eq!(hits.first().and_then(|h| h.turns.first()).map(|t| t.seq), Some(seq), "{word}");
        }
    }
    let database = rusqlite::Connection::open(&path).expect("a database");
    let sound: String = database.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("checked");
    assert_eq!(sound, "ok");
    database
        .execute("INSERT INTO chunk_text(chunk_text) VALUES('integrity-check')", [])
        .expect("the full-text table is sound");
    let texts: i64 = database.query_row("SELECT sum(length(text)) FROM piece", [], |row| row.get(0)).expect("counted");
    let whole: usize = (0..there).flat_map(|n| long_doc(n).turns).map(|t| t.text.chars().count()).sum();
    assert_eq!(texts as usize, whole, "no half segment");
}
