//! A supervision tree as data: who is started in which order, under which limits, and who may fail alone.
//!
//! ```text
//! supervisor("moon", OneForOne, max(3).per(HOUR))
//!     .optional("alert", alert::start(wiring))
//!     .branch(supervisor("control", RestForOne, max(3).per(HOUR)).vital("router", router::start(wiring)))
//! ```
//!
//! Every child is permanent: an end that nobody asked for is a crash. Names are unique in the whole tree, since a person
//! restarts a child by its name. Nothing here runs anything.

use super::actor::{Msg, Supervisor};
use super::address::Address;
use super::board::{Board, Row};
use super::policy::Limits;
use super::pulse::Watched;
use super::{ChildKind, Phase};
use ractor::{Actor, ActorCell, SpawnErr};
use std::collections::HashSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;

const DRAIN: Duration = Duration::from_secs(5);

/// What a start gives back: the child, linked to its supervisor, and the end of its task.
pub type Started = Result<(ActorCell, JoinHandle<()>), SpawnErr>;
/// Starts a fresh child linked to the given supervisor. Called again for every restart.
pub type StartFn = Arc<dyn Fn(ActorCell) -> Pin<Box<dyn Future<Output = Started> + Send>> + Send + Sync>;

/// Which siblings share the fate of a crashed child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// None.
    OneForOne,
    /// Those that were started after it: they are drained in reverse order and started again behind it.
    RestForOne,
}

/// `max(3).per(HOUR)`: the fourth crash of one child within an hour is too many.
pub fn max(crashes: usize) -> Max {
    Max(crashes)
}

/// Half of a limit; see [`max`].
#[derive(Clone, Copy, Debug)]
pub struct Max(usize);

impl Max {
    pub fn per(self, window: Duration) -> Limits {
        Limits { max: self.0, window }
    }
}

/// Opens the description of a supervisor. Its limits hold for each of its children on its own.
pub fn supervisor(name: &'static str, strategy: Strategy, limits: Limits) -> SupervisorSpec {
    SupervisorSpec { name, strategy, limits, drain: DRAIN, children: Vec::new() }
}

/// The way to start an actor of type `A` that is reached at `address`. `make` builds the actor and its arguments anew
/// for every start, so that a restart never sees what the crash left behind.
pub fn child<A: Actor>(
    address: Address<A::Msg>,
    make: impl Fn() -> (A, A::Arguments) + Send + Sync + 'static,
) -> StartFn {
    Arc::new(move |supervisor: ActorCell| {
        let (address, (actor, arguments)) = (address.clone(), make());
        Box::pin(async move {
            let actor = Watched { actor, pulse: address.pulse().clone() };
            // Unnamed: ractor's names are global to the process, and two trees may share one.
            let (actor, task) = supervisor.spawn_linked(None, actor, arguments).await?;
            address.fill(actor.clone());
            Ok((actor.get_cell(), task))
        })
    })
}

/// A supervisor and its children, in start order.
pub struct SupervisorSpec {
    name: &'static str,
    strategy: Strategy,
    limits: Limits,
    pub(super) drain: Duration,
    children: Vec<ChildSpec>,
}

enum ChildSpec {
    Leaf { name: &'static str, kind: ChildKind, start: StartFn },
    Branch(SupervisorSpec),
}

impl SupervisorSpec {
    /// Sets how long any child of the whole tree may take to finish when it is drained for a restart or because a
    /// supervisor gives up; 5 s unless set. Only the root's counts.
    #[must_use]
    pub fn drain(mut self, limit: Duration) -> Self {
        self.drain = limit;
        self
    }
    /// Adds a child without which the supervisor has no purpose: past its limit the supervisor gives up, too.
    #[must_use]
    pub fn vital(self, name: &'static str, start: StartFn) -> Self {
        self.with(ChildSpec::Leaf { name, kind: ChildKind::Vital, start })
    }
    /// Adds a child that is parked past its limit while its siblings run on.
    #[must_use]
    pub fn optional(self, name: &'static str, start: StartFn) -> Self {
        self.with(ChildSpec::Leaf { name, kind: ChildKind::Optional, start })
    }
    /// Adds a supervisor below this one. It is vital, and restarted whole.
    #[must_use]
    pub fn branch(self, spec: Self) -> Self {
        self.with(ChildSpec::Branch(spec))
    }
    fn with(mut self, child: ChildSpec) -> Self {
        // Whoever starts behind an optional child would be left half-dependent when that one is parked.
        let after_optional = matches!(self.children.last(), Some(ChildSpec::Leaf { kind: ChildKind::Optional, .. }));
        assert!(
            self.strategy == Strategy::OneForOne || !after_optional,
            "{}: under rest-for-one only the last child may be optional",
            self.name
        );
        self.children.push(child);
        self
    }
}

/// A spec with its places on the board: what a supervisor runs, again after each of its own restarts.
pub(super) struct Plan {
    pub(super) path: String,
    pub(super) is_root: bool,
    pub(super) strategy: Strategy,
    pub(super) children: Vec<Planned>,
}

pub(super) struct Planned {
    pub(super) name: &'static str,
    pub(super) path: String,
    pub(super) row: usize,
    pub(super) kind: ChildKind,
    /// Actors that end one after the other when this child stops: 1 for a leaf.
    pub(super) leaves: u32,
    /// Everybody below, this child excluded.
    pub(super) below: HashSet<&'static str>,
    pub(super) branch: Option<Address<Msg>>,
    pub(super) start: StartFn,
}

/// Lays a spec out: one row per child, parents before their children. Panics on a name that is used twice.
pub(super) fn plan(spec: SupervisorSpec, make_board: impl FnOnce(Vec<Row>) -> Board) -> (Arc<Plan>, Arc<Board>) {
    let mut rows = Vec::new();
    let mut names = HashSet::new();
    let draft = lay_out(spec, None, &mut rows, &mut names);
    let board = Arc::new(make_board(rows));
    (Arc::new(draft.bind(&board)), board)
}

/// A plan before the board exists, because branches need it to start.
struct Draft {
    plan: Plan,
    branches: Vec<(usize, Self)>,
}

impl Draft {
    fn bind(self, board: &Arc<Board>) -> Plan {
        let mut plan = self.plan;
        for (index, branch) in self.branches {
            let child = &mut plan.children[index];
            let address = Address::new();
            child.branch = Some(address.clone());
            let (below, board) = (Arc::new(branch.bind(board)), Arc::clone(board));
            child.start = self::child(address, move || (Supervisor, (Arc::clone(&below), Arc::clone(&board))));
        }
        plan
    }
}

fn lay_out(
    spec: SupervisorSpec,
    parent: Option<(usize, &str)>,
    rows: &mut Vec<Row>,
    names: &mut HashSet<&'static str>,
) -> Draft {
    assert!(names.insert(spec.name), "two actors of the tree are named {}", spec.name);
    let path = parent.map_or(spec.name.to_owned(), |(_, above)| format!("{above}/{}", spec.name));
    let plan = Plan { path: path.clone(), is_root: parent.is_none(), strategy: spec.strategy, children: vec![] };
    let mut draft = Draft { plan, branches: Vec::new() };
    for child in spec.children {
        let row = rows.len();
        let (name, kind) = match &child {
            ChildSpec::Leaf { name, kind, .. } => (*name, *kind),
            ChildSpec::Branch(spec) => (spec.name, ChildKind::Branch),
        };
        let child_path = format!("{path}/{name}");
        rows.push(Row::new(name, child_path.clone(), kind, parent.map(|(row, _)| row), spec.limits));
        let mut planned = Planned {
            name,
            path: child_path,
            row,
            kind,
            leaves: 1,
            below: HashSet::new(),
            branch: None,
            start: never(),
        };
        match child {
            ChildSpec::Leaf { start, .. } => {
                assert!(names.insert(name), "two actors of the tree are named {name}");
                planned.start = start;
            }
            ChildSpec::Branch(spec) => {
                let below = lay_out(spec, Some((row, &path)), rows, names);
                planned.leaves = below.plan.children.iter().map(|c| c.leaves).sum();
                planned.below =
                    below.plan.children.iter().flat_map(|c| c.below.iter().copied().chain([c.name])).collect();
                draft.branches.push((draft.plan.children.len(), below));
            }
        }
        draft.plan.children.push(planned);
    }
    debug_assert!(rows.iter().all(|row| row.phase == Phase::Waiting));
    draft
}

/// Stands in for a branch's start until the board exists.
fn never() -> StartFn {
    Arc::new(|_| Box::pin(async { Err(SpawnErr::StartupFailed("not laid out".into())) }))
}
