//! What is drawn: a view laid out over the room there is. Pure but for the frame.

use crate::screens::plain;
use crate::screens::view::{Fact, Level, Session, View};
use moon_actors::contract::count;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, BorderType, Paragraph};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pane {
    #[default]
    Sessions,
    Pipeline,
    Actors,
    Health,
    Alerts,
    Backups,
    Resources,
}

impl Pane {
    pub const ALL: [Self; 7] =
        [Self::Sessions, Self::Pipeline, Self::Actors, Self::Health, Self::Alerts, Self::Backups, Self::Resources];

    pub fn title(self) -> &'static str {
        match self {
            Self::Sessions => "Sessions",
            Self::Pipeline => "Pipeline",
            Self::Actors => "Actors",
            Self::Health => "Health",
            Self::Alerts => "Alerts",
            Self::Backups => "Backups",
            Self::Resources => "Resources",
        }
    }
    #[must_use]
    pub fn step(self, by: isize) -> Self {
        let at = Self::ALL.iter().position(|pane| *pane == self).unwrap_or_default() as isize;
        Self::ALL[(at + by).rem_euclid(Self::ALL.len() as isize) as usize]
    }
}

/// Everything that decides what is seen.
#[derive(Clone, Debug, Default)]
pub struct Screen {
    /// `None` until the first document is there.
    pub view: Option<View>,
    /// Why the last look failed.
    pub error: Option<String>,
    pub focus: Pane,
    pub scroll: u16,
    pub has_colour: bool,
    /// Printed once: nothing to press.
    pub is_printed: bool,
}

/// Below this there is one pane at a time.
const WIDE: u16 = 100;
const HIGH: u16 = 26;
const MOST_TROUBLES: usize = 4;
/// Alerts in the pane when all panes are shown.
const MOST_ALERTS: usize = 8;

/// The height at which nothing of a printed dashboard is cut.
pub(super) fn height(view: &View) -> u16 {
    let facts = view.costs.len() + view.totals.len() + view.chores.as_ref().map_or(0, |c| c.len() + 1);
    let alerts = view.alerts.as_ref().map_or(1, Vec::len).clamp(1, MOST_ALERTS);
    let right = [view.checks.len().max(1), alerts, view.backups.as_ref().map_or(1, Vec::len), facts.max(4)];
    let left = [view.sessions.len().max(1) + 1, view.stages.len().max(1) + 1, view.actors.len().max(2)];
    let lines = |panes: &[usize]| panes.iter().sum::<usize>() + 2 * panes.len();
    // With a health of many checks the right column gives it a third: then it is three times as high.
    let right = lines(&right).max(if view.checks.len() > 6 { 3 * (view.checks.len() + 2) } else { 0 });
    let troubles = view.troubles.len().min(MOST_TROUBLES) * 2 + 3;
    u16::try_from(lines(&left).max(right) + troubles).unwrap_or(u16::MAX).clamp(HIGH, 200)
}

struct Painter {
    has_colour: bool,
}

impl Painter {
    fn colour(&self, style: Style, colour: Color) -> Style {
        if self.has_colour { style.fg(colour) } else { style }
    }
    fn level(&self, level: Level) -> Style {
        match level {
            Level::Ok => self.colour(Style::new(), Color::Green),
            Level::Info => self.colour(Style::new(), Color::Blue),
            Level::Unknown => self.soft(),
            Level::Warning => self.colour(Style::new().add_modifier(Modifier::BOLD), Color::Yellow),
            Level::Critical => self.colour(Style::new().add_modifier(Modifier::BOLD), Color::Red),
        }
    }
    fn soft(&self) -> Style {
        if self.has_colour { Style::new().fg(Color::DarkGray) } else { Style::new().add_modifier(Modifier::DIM) }
    }
    fn strong(&self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }
}

pub fn draw(frame: &mut Frame, screen: &Screen) {
    let (painter, area) = (Painter { has_colour: screen.has_colour }, frame.area());
    let Some(view) = &screen.view else {
        let said = screen.error.clone().unwrap_or_else(|| "looking …".into());
        frame.render_widget(Paragraph::new(said), area);
        return;
    };
    let troubles = troubles(&painter, screen, view, area);
    let is_tabbed = area.width < WIDE || area.height < HIGH;
    let [head, warned, body, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(troubles.len() as u16),
        Constraint::Min(1),
        Constraint::Length(u16::from(!screen.is_printed)),
    ])
    .areas(area);
    frame.render_widget(Paragraph::new(headline(&painter, view, head.width)), head);
    frame.render_widget(Paragraph::new(troubles), warned);
    match is_tabbed {
        true => tabbed(frame, &painter, screen, view, body),
        false => all(frame, &painter, screen, view, body),
    }
    let keys = if foot.width < 60 { " q quit  Tab next" } else { " q quit   Tab next pane   ↑ ↓ scroll" };
    frame.render_widget(Paragraph::new(Line::styled(keys, painter.soft())), foot);
}

fn headline<'a>(painter: &Painter, view: &View, width: u16) -> Line<'a> {
    let pill = Style::new().add_modifier(Modifier::REVERSED | Modifier::BOLD);
    let pill = match view.level {
        Level::Ok => painter.colour(pill, Color::Green),
        Level::Critical => painter.colour(pill, Color::Red),
        _ => painter.colour(pill, Color::Yellow),
    };
    let mut line = Line::from(vec![
        Span::styled(format!(" moon {} ", view.version), painter.strong()),
        Span::styled(format!(" {} ", view.word), pill),
        Span::raw(format!(" {} ", view.said)),
    ]);
    let time = view.generated.clone();
    let left = usize::from(width).saturating_sub(line.width() + time.len() + 1);
    if left > 0 {
        line.push_span(Span::raw(" ".repeat(left)));
        line.push_span(Span::styled(time, painter.soft()));
    }
    line
}

fn troubles<'a>(painter: &Painter, screen: &Screen, view: &View, area: Rect) -> Vec<Line<'a>> {
    let most = if area.height < 20 { 1 } else { MOST_TROUBLES };
    let mut lines = Vec::new();
    if let Some(error) = &screen.error {
        lines.push(Line::styled(format!(" ! {error}"), painter.level(Level::Warning)));
    }
    let caution = plain::caution(view);
    lines.extend(caution.map(|said| Line::styled(format!(" ! {said}"), painter.level(Level::Warning))));
    for trouble in view.troubles.iter().take(most) {
        let age = trouble.age.as_ref().map_or(String::new(), |age| format!(" ({age})"));
        let mut line = Line::from(vec![
            Span::styled(format!(" {} ", trouble.level.mark()), painter.level(trouble.level)),
            Span::styled(format!("{}{age}", trouble.text), painter.level(trouble.level)),
        ]);
        if let Some(hint) = &trouble.hint {
            if line.width() + hint.chars().count() + 4 > usize::from(area.width) && area.height >= 20 {
                lines.push(std::mem::take(&mut line));
                line.push_span(Span::raw("   "));
            }
            line.push_span(Span::styled(format!("  {hint}"), painter.soft()));
        }
        lines.push(line);
    }
    let more = view.troubles.len().saturating_sub(most);
    if more > 0 {
        lines.push(Line::styled(format!("   and {more} more"), painter.soft()));
    }
    lines
}

/// One pane at a time, chosen by name.
fn tabbed(frame: &mut Frame, painter: &Painter, screen: &Screen, view: &View, area: Rect) {
    let [tabs, body] = Layout::vertical([Constraint::Length(1), Constraint::Min(1)]).areas(area);
    let mut line = Line::default();
    for pane in Pane::ALL {
        let is_here = pane == screen.focus;
        let style = if is_here { Style::new().add_modifier(Modifier::REVERSED) } else { painter.soft() };
        let name = if tabs.width < 75 && !is_here { &pane.title()[..4] } else { pane.title() };
        line.push_span(Span::styled(format!(" {name} "), style));
    }
    frame.render_widget(Paragraph::new(line), tabs);
    pane(frame, painter, screen, view, (screen.focus, body));
}

/// All panes at once.
fn all(frame: &mut Frame, painter: &Painter, screen: &Screen, view: &View, area: Rect) {
    let [left, right] = Layout::horizontal([Constraint::Percentage(58), Constraint::Percentage(42)]).areas(area);
    let room = |lines: usize| u16::try_from(lines + 2).unwrap_or(u16::MAX);
    let sessions = room(view.sessions.len().max(1) + 1).min(left.height.saturating_sub(18).max(5));
    let [top, middle, bottom] = Layout::vertical([
        Constraint::Length(sessions),
        Constraint::Length(room(view.stages.len().max(1) + 1)),
        Constraint::Min(4),
    ])
    .areas(left);
    pane(frame, painter, screen, view, (Pane::Sessions, top));
    pane(frame, painter, screen, view, (Pane::Pipeline, middle));
    pane(frame, painter, screen, view, (Pane::Actors, bottom));
    let alerts = view.alerts.as_ref().map_or(1, Vec::len).clamp(1, MOST_ALERTS);
    let facts = view.costs.len() + view.totals.len() + view.chores.as_ref().map_or(0, |c| c.len() + 1);
    let [health, alerted, kept, costs] = Layout::vertical([
        Constraint::Length(room(view.checks.len().max(1)).min(right.height / 3)),
        Constraint::Length(room(alerts)),
        Constraint::Length(room(view.backups.as_ref().map_or(1, Vec::len))),
        Constraint::Min(room(facts).min(6)),
    ])
    .areas(right);
    pane(frame, painter, screen, view, (Pane::Health, health));
    pane(frame, painter, screen, view, (Pane::Alerts, alerted));
    pane(frame, painter, screen, view, (Pane::Backups, kept));
    pane(frame, painter, screen, view, (Pane::Resources, costs));
}

fn pane(frame: &mut Frame, painter: &Painter, screen: &Screen, view: &View, (pane, area): (Pane, Rect)) {
    let is_focused = pane == screen.focus && !screen.is_printed;
    let edge = if is_focused { painter.colour(Style::new(), Color::Cyan) } else { painter.soft() };
    let mut title = vec![Span::styled(format!(" {} ", pane.title()), painter.strong())];
    if let (Pane::Health, Some(verdict)) = (pane, view.verdict) {
        title.push(Span::styled(format!("{} ", verdict.word()), painter.level(verdict)));
        title.extend(view.checked.as_ref().map(|ago| Span::styled(format!("{ago} "), painter.soft())));
    }
    let kind = if is_focused { BorderType::Thick } else { BorderType::Rounded };
    let block = Block::bordered().border_type(kind).border_style(edge).title(Line::from(title));
    let inner = block.inner(area);
    let lines = lines(painter, view, (pane, inner.width));
    let hidden = (lines.len() as u16).saturating_sub(inner.height);
    let scroll = if is_focused { screen.scroll.min(hidden) } else { 0 };
    let below = hidden - scroll;
    let block = if below > 0 && area.height > 2 {
        block.title_bottom(Line::styled(format!(" {below} more ↓ "), painter.soft()).right_aligned())
    } else {
        block
    };
    frame.render_widget(Paragraph::new(lines).block(block).scroll((scroll, 0)), area);
}

fn lines<'a>(painter: &Painter, view: &View, (pane, width): (Pane, u16)) -> Vec<Line<'a>> {
    let none = |said: &'static str| vec![Line::styled(said, painter.soft())];
    match pane {
        Pane::Sessions if view.sessions.is_empty() => none("no sessions seen yet"),
        Pane::Sessions => sessions(painter, view, width),
        Pane::Pipeline if view.stages.is_empty() => none("not known"),
        Pane::Pipeline => pipeline(painter, view),
        Pane::Actors if view.actors.is_empty() => none("only a running daemon has actors"),
        Pane::Actors => actors(painter, view),
        Pane::Health if view.checks.is_empty() => none("not known"),
        Pane::Health => view.checks.iter().map(|c| marked(painter, c.level, &c.name, &c.reason)).collect(),
        Pane::Alerts => match &view.alerts {
            None => none("not known"),
            Some(alerts) if alerts.is_empty() => none("none in the last 24 hours"),
            Some(alerts) => alerts
                .iter()
                .map(|a| match a.firing {
                    true => marked(painter, a.level, &a.rule, &format!("{} {}", a.age, a.text)),
                    false => Line::styled(format!("- {} {}, over: {}", a.rule, a.age, a.text), painter.soft()),
                })
                .collect(),
        },
        Pane::Backups => view.backups.as_ref().map_or_else(|| none("not known"), |facts| table(painter, facts)),
        Pane::Resources => {
            let mut lines = table(painter, &view.costs);
            lines.extend(table(painter, &view.totals));
            if let Some(chores) = view.chores.as_ref().filter(|chores| !chores.is_empty()) {
                lines.push(Line::styled("calendar", painter.strong()));
                lines.extend(table(painter, chores));
            }
            lines
        }
    }
}

fn marked<'a>(painter: &Painter, level: Level, name: &str, said: &str) -> Line<'a> {
    Line::from(vec![
        Span::styled(format!("{} ", level.mark()), painter.level(level)),
        Span::styled(format!("{name}  "), painter.strong()),
        Span::raw(said.to_owned()),
    ])
}

fn table<'a>(painter: &Painter, facts: &[Fact]) -> Vec<Line<'a>> {
    let widest = facts.iter().map(|fact| fact.name.chars().count()).max().unwrap_or(0).max(11);
    let line = |fact: &Fact| {
        Line::from(vec![
            Span::styled(format!("{:<widest$}  ", fact.name), painter.soft()),
            Span::raw(fact.value.clone()),
        ])
    };
    facts.iter().map(line).collect()
}

fn pipeline<'a>(painter: &Painter, view: &View) -> Vec<Line<'a>> {
    let head = format!("{:<11} {:>7} {:>8} {:>9}  {}", "stage", "at work", "waiting", "set aside", "last done");
    let mut lines = vec![Line::styled(head, painter.soft())];
    for s in &view.stages {
        let failing = if s.failing > 0 { format!("  {} failing", s.failing) } else { String::new() };
        let mut line = Line::from(vec![
            Span::styled(
                format!("{:<11} ", s.name),
                if s.level == Level::Ok { Style::new() } else { painter.level(s.level) },
            ),
            Span::raw(format!("{:>7} {:>8} {:>9}  {}", s.claimed, s.waiting, s.failed, s.last_done)),
        ]);
        line.push_span(Span::styled(failing, painter.level(Level::Warning)));
        lines.push(line);
    }
    lines
}

fn actors<'a>(painter: &Painter, view: &View) -> Vec<Line<'a>> {
    let line = |a: &crate::screens::view::ActorRow| {
        let name = format!("{}{}", "  ".repeat(a.depth), a.name);
        let restarts = if a.restarts > 0 { format!("  {}", count(a.restarts, "restart")) } else { String::new() };
        Line::from(vec![
            Span::styled(format!("{} ", a.level.mark()), painter.level(a.level)),
            Span::raw(format!("{name:<18} ")),
            Span::styled(format!("{:<8}", a.phase), painter.level(a.level)),
            Span::styled(format!("{:<9}", a.since), painter.soft()),
            Span::styled(restarts, painter.level(Level::Warning)),
            Span::styled(if a.error.is_empty() { String::new() } else { format!("  {}", a.error) }, painter.soft()),
        ])
    };
    view.actors.iter().map(line).collect()
}

fn sessions<'a>(painter: &Painter, view: &View, width: u16) -> Vec<Line<'a>> {
    let width = usize::from(width);
    // Name, bar, percent, sparkline, state: what there is no room for goes from the right.
    let key = (width * 2 / 5).clamp(10, 44);
    let bar = width.saturating_sub(key + 12).clamp(6, 22);
    let spark = width.saturating_sub(key + bar + 12).min(24);
    let state = width.saturating_sub(key + bar + spark + 13);
    let mut head = format!("{:<key$} {:<bar$} {:>7}", "session", "", "used");
    if spark >= 8 {
        head.push_str(&format!("  {:<w$}", "last 24 h", w = spark - 1));
    }
    let mut lines = vec![Line::styled(head, painter.soft())];
    for s in &view.sessions {
        let name = plain::shortened(&s.key, key);
        let pad = key.saturating_sub(Span::raw(name.as_str()).width());
        let style = if s.stale { painter.soft() } else { painter.strong() };
        let mut line = Line::from(vec![Span::styled(format!("{name}{} ", " ".repeat(pad)), style)]);
        line.spans.extend(gauge(painter, s, (bar, &view.thresholds)));
        line.push_span(Span::styled(format!(" {:>7}", s.percent), level_of(painter, s)));
        if spark >= 8 {
            line.push_span(Span::styled(
                format!("  {}", sparkline(&s.day, spark - 1)),
                painter.colour(Style::new(), Color::Cyan),
            ));
        }
        if state > 6 {
            let stale = if s.stale { " stale" } else { "" };
            line.push_span(Span::styled(format!(" {}{stale}", s.state), painter.soft()));
        }
        lines.push(line);
    }
    lines
}

fn level_of(painter: &Painter, session: &Session) -> Style {
    match session.crossed {
        0 => painter.colour(painter.strong(), Color::Blue),
        1 => painter.colour(painter.strong(), Color::Cyan),
        2 => painter.level(Level::Warning),
        _ => painter.level(Level::Critical),
    }
}

/// A bar of `width` characters; the thresholds stay visible in what is free.
fn gauge<'a>(painter: &Painter, session: &Session, (width, thresholds): (usize, &[f64; 3])) -> Vec<Span<'a>> {
    let at = |share: f64| ((share * width as f64).round() as usize).min(width);
    let filled = session.ratio.map_or(0, at);
    let free = |cell: usize| if thresholds.iter().any(|t| at(*t).saturating_sub(1) == cell) { '┊' } else { '·' };
    vec![
        Span::styled("█".repeat(filled), level_of(painter, session)),
        Span::styled((filled..width).map(free).collect::<String>(), painter.soft()),
    ]
}

/// The last `width` groups of a history as little columns; a blank where nothing was known.
pub(super) fn sparkline(cells: &[Option<f64>], width: usize) -> String {
    const COLUMNS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    if cells.is_empty() || width == 0 {
        return " ".repeat(width);
    }
    let group = |n: usize| {
        let (from, to) = (n * cells.len() / width, ((n + 1) * cells.len()).div_ceil(width).min(cells.len()));
        cells[from.min(cells.len() - 1)..to].iter().flatten().copied().reduce(f64::max)
    };
    let column = |share: f64| COLUMNS[((share.clamp(0.0, 1.0) * 7.0).round() as usize).min(7)];
    (0..width).map(|n| group(n).map_or(' ', column)).collect()
}
