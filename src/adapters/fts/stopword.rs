//! Words that say nothing about what is looked for. Pure.
//!
//! Why by hand and small: a word that also carries meaning in another language ("war", "die", "pour", "comment") must
//! stay searchable, so such words are left out on purpose; so are single letters, which name languages and drives.

const ENGLISH: &str = "\
    a about above after again all also although am an and any are aren as at be because been before being below \
    between both but by can cannot could couldn did didn do does doesn doing don down during each ever every few \
    for from further get gets getting give got had hadn has hasn have haven having he her here hers herself him \
    himself his how i if in into is isn it its itself just know let like ll many me might more most much must my \
    myself no nor not now of off often on once only or other our ours ourselves out over own please re same say \
    says shall she should shouldn so some such tell than that the their theirs them themselves then there these \
    they this those through to too under until up upon us ve very was wasn we were weren what when where whether \
    which while who whom whose why will with won would wouldn you your yours yourself yourselves";
const GERMAN: &str = "\
    aber als auch auf aus bei beim bis bist da dabei damit dann das dass dein deine dem der dich dir doch du \
    durch ein eine einem einen einer eines er es euch euer für gegen hab habe haben hatte hatten hier ich ihm \
    ihn ihnen ihr ihre im ist jede jeder jedes kann kein keine können mein meine mich mir mit muss nach nicht \
    noch nun nur ob oder ohne sehr sein seine seit sich sie sind soll sollte über um und uns unser unsere unter \
    vom von vor wann warum was weil welche welcher welches wenn wer werden wie wieder wir wird wo wurde wurden \
    zu zum zur zwischen";
const FRENCH: &str = "\
    alors au aux avait avec avez avons ce ces cet cette comme dans de des du elle elles en est et eu ils il je \
    la le les leur leurs lui ma mais mes moi mon ne nos notre nous ont ou où pas pourquoi qu quand que quel \
    quelle quelles quels qui sa ses si sommes sont sur ta te tes toi tu un une vos votre vous été être";
const RUSSIAN: &str = "\
    а без был была были было в вам вас во вот все всё вы где да для до его ее её если есть же за и из или им их \
    к как какая какие какой ко когда которая которые который кто ли мне мы на над нам нас не него нет ни но о об \
    он она они оно от по под при про с со так там то тоже только ты у уже что чтобы эта эти это этот я";

/// Whether a lower-case word is one of them.
pub(super) fn is_stop(word: &str) -> bool {
    use std::collections::HashSet;
    use std::sync::LazyLock;
    static ALL: LazyLock<HashSet<&'static str>> =
        LazyLock::new(|| [ENGLISH, GERMAN, FRENCH, RUSSIAN].iter().flat_map(|l| l.split_whitespace()).collect());
    ALL.contains(word)
}
