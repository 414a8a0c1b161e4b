//! What the tree is wired with: ports, settings, one address per actor, and how the engines are put together.

use crate::alert::desk::Desk;
use crate::alert::{AlertMsg, Post};
use crate::archive::capture::Captures;
use crate::archive::engine::{ArchiveStage, Archiver, Proven, Turns};
use crate::backup::chore::{BackupChore, DrillChore};
use crate::backup::engine::Backups;
use crate::bridge::actor::BridgeMsg;
use crate::bridge::engine::Inbox;
use crate::continuity::engine::ContinuityStage;
use crate::control::actor::SocketMsg;
use crate::control::engine::Hands;
use crate::control::{ControlMsg, Transport};
use crate::distill::engine::DistillStage;
use crate::domain::Stage;
use crate::health::engine::Doctor;
use crate::index::engine::{IndexStage, Indexer};
use crate::port::Ports;
use crate::projection::ProjectionMsg;
use crate::prune::engine::{PruneStage, Reducer};
use crate::recall::engine::Recaller;
use crate::report::WeeklyReport;
use crate::rotation::engine::Rotation;
use crate::schedule::actor::ChoreMsg;
use crate::schedule::{Chore, Task};
use crate::screens::actor::{PagesMsg, WebMsg};
use crate::settings::Settings;
use crate::stage::{Engine, StageMsg};
use crate::supervisor::{Address, Pulse};
use crate::threshold::actor::ThresholdMsg;
use crate::threshold::engine::Judge;
use crate::usage::actor::UsageMsg;
use crate::usage::engine::Watcher;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// One address per actor. Actors reach each other only through these.
#[derive(Clone, Default)]
pub struct Mailboxes {
    pub alert: Address<AlertMsg>,
    pub projection: Address<ProjectionMsg>,
    pub usage: Address<UsageMsg>,
    pub bridge: Address<BridgeMsg>,
    pub threshold: Address<ThresholdMsg>,
    pub control: Address<ControlMsg>,
    pub socket: Address<SocketMsg>,
    pub pages: Address<PagesMsg>,
    pub web: Address<WebMsg>,
    stages: [Address<StageMsg>; 5],
    chores: [Address<ChoreMsg>; Task::ALL.len()],
}

impl Mailboxes {
    pub fn stage(&self, stage: Stage) -> &Address<StageMsg> {
        &self.stages[stage as usize]
    }
    pub fn chore(&self, task: Task) -> &Address<ChoreMsg> {
        &self.chores[task as usize]
    }
    /// The pulses of the actors that Moon cannot do without, by their names in the tree.
    pub fn vital(&self) -> [(&'static str, &Pulse); 6] {
        [
            (Stage::Archive.as_str(), self.stage(Stage::Archive).pulse()),
            ("threshold", self.threshold.pulse()),
            ("usage", self.usage.pulse()),
            ("bridge", self.bridge.pulse()),
            ("router", self.control.pulse()),
            ("socket", self.socket.pulse()),
        ]
    }
    /// Lets every stage look for due jobs.
    pub fn nudge_stages(&self) {
        for stage in &self.stages {
            stage.cast(StageMsg::Nudge);
        }
    }
}

/// A doorbell that coalesces: any number of rings between two looks are one.
#[derive(Clone, Default)]
pub struct Bell(Arc<AtomicBool>);

impl Bell {
    /// True for the first ring since the last answer.
    pub fn ring(&self) -> bool {
        !self.0.swap(true, Ordering::AcqRel)
    }
    /// Whoever rings from now on is heard again.
    pub fn answer(&self) {
        self.0.store(false, Ordering::Release);
    }
}

/// The doorbells of those who look at the world.
#[derive(Clone, Default)]
pub struct Bells {
    pub host: Bell,
    pub bridge: Bell,
}

/// Makes the hands a router works with, each time a router starts.
pub type MakeHands = Arc<dyn Fn(&Wiring) -> Arc<dyn Hands> + Send + Sync>;

/// Everything an actor may be given. Cheap to clone.
#[derive(Clone)]
pub struct Wiring {
    pub ports: Ports,
    pub settings: Arc<Settings>,
    pub mail: Mailboxes,
    pub bells: Bells,
    /// Keeps two stages from archiving the same session at once.
    pub turns: Turns,
    /// What of the archive was compared with the host in this life.
    pub proven: Proven,
    /// The checks, and what each has found.
    pub doctor: Doctor,
    pub transport: Arc<dyn Transport>,
    pub hands: MakeHands,
}

impl Wiring {
    /// Connects the doorbells of host and bridge to those who look at them. Once, before the tree starts.
    pub fn connect_bells(&self) {
        let (bell, usage) = (self.bells.host.clone(), self.mail.usage.clone());
        self.ports.host.subscribe(Arc::new(move || {
            if bell.ring() {
                usage.cast(UsageMsg::Look);
            }
        }));
        let (bell, bridge) = (self.bells.bridge.clone(), self.mail.bridge.clone());
        self.ports.bridge.subscribe(Arc::new(move || {
            if bell.ring() {
                bridge.cast(BridgeMsg::Look);
            }
        }));
    }

    pub fn archiver(&self) -> Archiver {
        let p = &self.ports;
        Archiver {
            host: Arc::clone(&p.host),
            store: Arc::clone(&p.archive),
            ledger: Arc::clone(&p.ledger),
            clock: Arc::clone(&p.clock),
            probe: Arc::clone(&p.probe),
            settings: self.settings.archive.clone(),
            turns: self.turns.clone(),
            proven: self.proven.clone(),
        }
    }
    pub fn indexer(&self) -> Indexer {
        let p = &self.ports;
        Indexer {
            store: Arc::clone(&p.archive),
            index: Arc::clone(&p.index),
            ledger: Arc::clone(&p.ledger),
            probe: Arc::clone(&p.probe),
        }
    }
    pub fn reducer(&self) -> Reducer {
        Reducer { archiver: self.archiver(), indexer: self.indexer(), bridge: Arc::clone(&self.ports.bridge) }
    }
    pub fn recaller(&self) -> Recaller {
        let p = &self.ports;
        Recaller {
            index: Arc::clone(&p.index),
            ledger: Arc::clone(&p.ledger),
            bridge: Arc::clone(&p.bridge),
            clock: Arc::clone(&p.clock),
            ids: Arc::clone(&p.ids),
            settings: self.settings.recall.clone(),
        }
    }
    pub fn judge(&self) -> Judge {
        let p = &self.ports;
        Judge {
            host: Arc::clone(&p.host),
            ledger: Arc::clone(&p.ledger),
            clock: Arc::clone(&p.clock),
            ids: Arc::clone(&p.ids),
            settings: Arc::clone(&self.settings),
        }
    }
    pub fn watcher(&self) -> Watcher {
        let p = self.ports.clone();
        Watcher::new(p.host, p.ledger, p.clock, self.captures())
    }
    pub fn inbox(&self) -> Inbox {
        let p = self.ports.clone();
        let (captures, settings) = (self.captures(), self.settings.continuity.clone());
        Inbox { host: p.host, bridge: p.bridge, ledger: p.ledger, clock: p.clock, captures, settings }
    }
    pub fn post(&self) -> Post {
        let p = &self.ports;
        Post {
            ledger: Arc::clone(&p.ledger),
            notifiers: p.notifiers.clone(),
            probe: Arc::clone(&p.probe),
            settings: Arc::clone(&self.settings),
        }
    }
    pub fn desk(&self) -> Desk {
        Desk { post: self.post(), bell: self.mail.alert.clone(), clock: Arc::clone(&self.ports.clock) }
    }
    pub fn backups(&self) -> Backups {
        let p = self.ports.clone();
        Backups { vault: p.vault, ledger: p.ledger, clock: p.clock, settings: self.settings.backup.clone() }
    }
    pub fn captures(&self) -> Captures {
        Captures { ledger: Arc::clone(&self.ports.ledger), ids: Arc::clone(&self.ports.ids) }
    }

    /// A task of the calendar.
    pub fn chore(&self, task: Task) -> Arc<dyn Chore> {
        match task {
            Task::Rotation => Arc::new(self.rotation()),
            Task::Backup => Arc::new(BackupChore(self.backups())),
            Task::Drill => Arc::new(DrillChore(self.backups())),
            Task::Report => Arc::new(WeeklyReport::new(self)),
        }
    }
    pub fn rotation(&self) -> Rotation {
        Rotation { logs: Arc::clone(&self.ports.logs), times: self.settings.rotation.at.clone() }
    }

    /// The engine of a stage.
    pub fn engine(&self, stage: Stage) -> Arc<dyn Engine> {
        let p = &self.ports;
        let max_items = self.settings.distill.max_items;
        let limits = &self.settings.thresholds;
        match stage {
            Stage::Archive => Arc::new(ArchiveStage {
                archiver: self.archiver(),
                bridge: Arc::clone(&p.bridge),
                captures: self.captures(),
            }),
            Stage::Index => Arc::new(IndexStage { indexer: self.indexer(), archiver: self.archiver() }),
            Stage::Prune => Arc::new(PruneStage {
                reducer: self.reducer(),
                distiller: Arc::clone(&p.distiller),
                max_items,
                needless_below: limits.prune - limits.hysteresis,
            }),
            Stage::Distill => Arc::new(DistillStage {
                archiver: self.archiver(),
                memory: Arc::clone(&p.memory),
                distiller: Arc::clone(&p.distiller),
                max_items,
            }),
            Stage::Continuity => Arc::new(ContinuityStage {
                reducer: self.reducer(),
                memory: Arc::clone(&p.memory),
                settings: self.settings.continuity.clone(),
                mode: self.settings.openclaw.mode,
                needless_below: limits.archive - limits.hysteresis,
            }),
        }
    }
    /// All of them, in order.
    pub fn engines(&self) -> Vec<Arc<dyn Engine>> {
        Stage::ALL.into_iter().map(|stage| self.engine(stage)).collect()
    }
}
