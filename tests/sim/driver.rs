//! What people, agents and bad luck do to the world, and the lives of Moon in it.
//!
//! Plans lie in the world's state with their real time, so that a crash of Moon delays none of them. A life is a runtime of its
//! own: dropping it is what `kill -9` is to a process.

use crate::host::Session;
use crate::world::{Weather, World};
use async_trait::async_trait;
use moon_actors::control::engine::{Hands, OwnHands};
use moon_actors::control::{Router, Serving, Transport};
use moon_actors::distill::local::LocalDistiller;
use moon_actors::domain::{SessionKey, Sha256};
use moon_actors::port::{AlertKey, BridgeEventKind, Carried, Clock, Ledger, LogFiles, LogSet, Ports, Severity, Slot};
use moon_actors::rotation::policy::Step;
use moon_actors::settings::Settings;
use moon_actors::supervisor::{self, EndReason, Notice, Sink};
use moon_actors::tree::tree;
use moon_actors::wiring::{MakeHands, Wiring};
use std::sync::Arc;
use std::time::Duration;

#[derive(Clone, Debug)]
pub(crate) enum Plan {
    TurnBegins(SessionKey),
    TurnEnds(SessionKey),
    /// A turn after which the window holds exactly so many tokens.
    Fill {
        key: SessionKey,
        tokens: u64,
    },
    /// Somebody takes the map away.
    LoseMap(SessionKey),
    Compact {
        key: SessionKey,
        id: String,
        until: i64,
        by: &'static str,
        cycle: Option<String>,
    },
    /// The host rewrites a record in place; silently, or with a new generation.
    Rewrite {
        key: SessionKey,
        silent: bool,
    },
    /// The host says that it rewrote something, but what is archived stayed.
    Touch(SessionKey),
    /// A person begins another transcript under the same key; the old one stays or is removed.
    Replace {
        key: SessionKey,
        remove: bool,
    },
    IndexLost,
    IndexDamaged,
    BridgeDies,
    BridgeLives,
    HeldBusy {
        key: SessionKey,
        busy: bool,
    },
    Jump(i64),
    JumpTo1970,
    Death,
}

/// How a life ended.
#[derive(Debug, PartialEq)]
pub(crate) enum LifeEnd {
    /// Killed, by the dice or by a plan.
    Died,
    /// The tree gave up by itself.
    GaveUp,
    /// The time of this phase is over.
    Time,
}

struct Silence;
impl Serving for Silence {
    fn ended(&self) -> Option<String> {
        None
    }
}
impl Transport for Silence {
    fn serve(&self, _: Router) -> moon_actors::Result<Box<dyn Serving>> {
        Ok(Box::new(Self))
    }
}

/// No log files either.
#[async_trait]
impl LogFiles for Silence {
    async fn list(&self) -> Vec<moon_actors::Result<LogSet>> {
        vec![]
    }
    async fn carry_out(&self, _: &LogSet, _: &Step) -> moon_actors::Result<Carried> {
        Ok(Carried::Left("there are none"))
    }
    async fn reopen(&self, _: &LogSet) -> moon_actors::Result<()> {
        Ok(())
    }
    fn now(&self) -> chrono::NaiveDateTime {
        chrono::DateTime::UNIX_EPOCH.naive_utc()
    }
}

impl World {
    pub(crate) fn add_session(&self, name: &str, renames: bool) -> SessionKey {
        let key = SessionKey::from(name);
        self.state().sessions.insert(key.clone(), Session::new(&format!("{name}-0"), renames));
        key
    }

    pub(crate) fn wiring(&self, settings: &Settings) -> Wiring {
        let me = Arc::new(self.clone());
        let ports = Ports {
            host: me.clone(),
            bridge: me.clone(),
            archive: me.clone(),
            index: me.clone(),
            distiller: Arc::new(LocalDistiller),
            memory: me.clone(),
            ledger: Arc::new(self.ledger.clone()),
            notifiers: vec![me.clone()],
            checks: vec![],
            healer: Arc::new(moon_actors::port::NoHealer),
            clock: Arc::clone(&self.time) as _,
            ids: Arc::clone(&self.time) as _,
            projector: me.clone(),
            vault: Arc::new(moon_actors::port::NoVault),
            probe: me,
            logs: Arc::new(Silence),
            meter: Arc::new(moon_actors::port::NoMeter),
        };
        let hands: MakeHands = Arc::new(|w| -> Arc<dyn Hands> { Arc::new(OwnHands { wiring: w.clone() }) });
        moon::daemon::ports::wire(ports, settings.clone(), Arc::new(Silence), hands)
    }

    /// One life of Moon, until `end_ms` of real time at the latest.
    pub(crate) fn live(&mut self, settings: &Settings, end_ms: i64) -> LifeEnd {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime of one thread starts");
        self.ledger = self.ledger.next_life();
        let world = self.clone();
        let end = runtime.block_on(async {
            world.time.begin_life();
            world.lived(settings, end_ms).await
        });
        let _inside = runtime.enter();
        self.time.end_life();
        drop(_inside);
        // Everything that was under way is dropped where it stood.
        drop(runtime);
        end
    }

    async fn lived(&self, settings: &Settings, end_ms: i64) -> LifeEnd {
        // A death that came while the last life was ending anyway is that one's.
        let _ = futures_util::FutureExt::now_or_never(self.death.notified());
        self.ledger.begin("sim").await.expect("the ledger begins a life");
        let wiring = self.wiring(settings);
        wiring.connect_bells();
        let tree = supervisor::run(tree(&wiring), self.scribe()).await;
        let end = tokio::select! {
            biased;
            () = self.death.notified() => LifeEnd::Died,
            reason = tree.finished() => { assert_ne!(reason, EndReason::Stopped); LifeEnd::GaveUp }
            died = self.happen(end_ms) => if died { LifeEnd::Died } else { LifeEnd::Time },
        };
        match end {
            // Half of the planned ends are in order, the others are not.
            LifeEnd::Time if self.dice.per_mille("orderly", 500) => {
                tree.stop(settings.supervision.drain).await;
                self.ledger.end("stopped as asked").await.expect("the ledger ends a life");
            }
            LifeEnd::GaveUp => self.note("gave up"),
            _ => {}
        }
        end
    }

    /// As the daemon does it: parked children raise an alert that ends when they are up again.
    fn scribe(&self) -> Sink {
        let world = self.clone();
        Arc::new(move |notice| {
            use futures_util::FutureExt;
            let ledger = &world.ledger;
            match notice {
                Notice::Parked { child, reason } => {
                    world.note("parked");
                    let key = AlertKey::new("supervision.parked", child);
                    let _ = ledger.raise(&key, Severity::Critical, &reason, None).now_or_never();
                }
                Notice::Restarted { child } => {
                    let _ = ledger.resolve(&AlertKey::new("supervision.parked", child)).now_or_never();
                }
                Notice::Crashed { .. } => world.note("crashes"),
                Notice::Escalated { .. } | Notice::Stopped { .. } => {}
            }
        })
    }

    /// Lets the plans happen, each in its time. True when one of them is Moon's death.
    async fn happen(&self, end_ms: i64) -> bool {
        loop {
            let next = self.state().plans.first_key_value().map(|(at, _)| *at);
            let now = self.time.real_ms();
            let until = next.map_or(end_ms, |(at, _)| at.min(end_ms));
            if until > now {
                let pause = tokio::time::sleep(Duration::from_millis((until - now) as u64));
                // A port may plan something nearer meanwhile.
                tokio::select! {
                    biased;
                    () = self.planned.notified() => {}
                    () = pause => {}
                }
                continue;
            }
            if now >= end_ms {
                return false;
            }
            let plan = self.state().plans.pop_first().map(|(_, plan)| plan);
            if let Some(plan) = plan
                && self.carry_out(plan)
            {
                return true;
            }
        }
    }

    fn carry_out(&self, plan: Plan) -> bool {
        match plan {
            Plan::TurnBegins(key) => self.turn_begins(key),
            Plan::TurnEnds(key) => self.turn_ends(&key),
            Plan::Compact { key, id, until, by, cycle } => {
                let acked = self.state().inbox.acks.contains(&id);
                if acked || self.time.real_ms() >= until {
                    self.finish_compaction(&key, &id, by, cycle);
                } else {
                    self.plan(250, Plan::Compact { key, id, until, by, cycle });
                }
            }
            Plan::Rewrite { key, silent } => self.rewrite(&key, silent),
            Plan::Fill { key, tokens } => {
                self.turn_begins(key.clone());
                self.state().sessions.get_mut(&key).expect("a session of this world").used = Some(tokens - 1_000);
            }
            Plan::LoseMap(key) => _ = self.state().inbox.slots.remove(&(key, Slot::Context)),
            Plan::Touch(key) => {
                let mut state = self.state();
                state.sessions.get_mut(&key).expect("a session of this world").now().generation += 1;
            }
            Plan::Replace { key, remove } => self.replace(&key, remove),
            Plan::IndexLost | Plan::IndexDamaged => {
                let now = self.time.real_ms();
                let mut state = self.state();
                state.index.shaken_at = Some(now);
                if matches!(plan, Plan::IndexLost) {
                    state.index.docs.clear();
                } else {
                    state.index.corrupt = true;
                }
            }
            Plan::BridgeDies => self.state().inbox.dead = true,
            Plan::BridgeLives => self.state().inbox.dead = false,
            Plan::HeldBusy { key, busy } => {
                self.state().sessions.get_mut(&key).expect("a session of this world").held_busy = busy;
                self.push(&key);
            }
            Plan::Jump(ms) => self.time.jump(ms),
            Plan::JumpTo1970 => self.time.jump_to_1970(),
            Plan::Death => return true,
        }
        false
    }

    fn turn_begins(&self, key: SessionKey) {
        let at = self.time.now();
        let said = self.dice.between("said", 0, 99_999);
        {
            let mut state = self.state();
            let session = state.sessions.get_mut(&key).expect("a session of this world");
            if session.running || session.compacting.is_some() || session.held_busy {
                drop(state);
                return self.plan(3_000, Plan::TurnBegins(key));
            }
            session.running = true;
            session.last_activity = Some(at);
            session.say(
                "user",
                at,
                &format!("We decided that value {said} goes into src/part{said}.rs. What about it?"),
            );
            let block = state.inbox.slots.get(&(key.clone(), Slot::Context)).map(|t| Sha256::of(t.as_bytes()));
            let seen = match block {
                Some(sha256) => BridgeEventKind::Injected { slot: Slot::Context, sha256 },
                None => BridgeEventKind::NotInjected,
            };
            state.inbox.say(at, &key, seen);
        }
        self.ring_bridge();
        self.push(&key);
        self.plan(self.dice.between("turn.long", 1_000, 20_000), Plan::TurnEnds(key));
    }

    fn turn_ends(&self, key: &SessionKey) {
        let at = self.time.now();
        let grows = if self.state().steady { 1_000 } else { self.dice.between("turn.tokens", 1_000, 9_000) };
        let vouched = !self.dice.per_mille("unvouched", 50);
        let full = {
            let mut state = self.state();
            let session = state.sessions.get_mut(key).expect("a session of this world");
            session.say("assistant", at, &format!("Done: I changed it, the value is {grows} now."));
            (session.running, session.fresh, session.last_activity) = (false, vouched, Some(at));
            session.used = session.used.map(|used| (used + grows).min(120_000));
            let full = session.used.is_some_and(|used| used > 97_000) && session.compacting.is_none();
            state.inbox.say(at, key, BridgeEventKind::TurnEnded);
            full
        };
        self.ring_bridge();
        self.push(key);
        if full {
            // The host helps itself before it overflows.
            self.begin_compaction(key, "host");
        }
    }

    fn rewrite(&self, key: &SessionKey, silent: bool) {
        let which = self.dice.next("rewrite.which");
        let mut state = self.state();
        let session = state.sessions.get_mut(key).expect("a session of this world");
        let transcript = session.now();
        let which = (which % transcript.records.len() as u64) as usize;
        let record = &mut transcript.records[which];
        record.bytes =
            format!(r#"{{"type":"message","message":{{"role":"user","content":"rewritten {which}"}}}}"#).into_bytes();
        let seq = record.seq;
        if silent {
            transcript.silently.insert(seq);
        } else {
            transcript.generation += 1;
        }
        *state.happened.entry("rewrites").or_default() += 1;
        drop(state);
        self.push(key);
    }

    fn replace(&self, key: &SessionKey, remove: bool) {
        let at = self.time.now();
        let id = format!("id-{}", self.dice.next("session.id"));
        {
            let mut state = self.state();
            let session = state.sessions.get_mut(key).expect("a session of this world");
            if session.running || session.compacting.is_some() {
                return;
            }
            session.now().gone = remove;
            let ended = std::mem::replace(&mut session.id, id.clone());
            session.append(&format!(r#"{{"type":"session","id":"{id}"}}"#), 0);
            session.lifecycle += 1;
            (session.used, session.fresh, session.last_activity) = (Some(1_000), true, Some(at));
            // The plugin names the window that ends: nobody may ever have listed it.
            state.inbox.say_of(at, key, Some(ended), BridgeEventKind::WindowEnding);
            *state.happened.entry("replacements").or_default() += 1;
        }
        self.ring_bridge();
        self.push(key);
    }

    /// All faults stop; whatever was broken from outside is whole again.
    pub(crate) fn calm(&self) {
        let mut state = self.state();
        state.weather = Weather::default();
        state.broken.clear();
        state.mines.clear();
        state.inbox.dead = false;
        state.plans.retain(|_, plan| matches!(plan, Plan::Compact { .. } | Plan::TurnEnds(_)));
        for session in state.sessions.values_mut() {
            session.held_busy = false;
        }
        drop(state);
        self.time.set_right();
    }
}
