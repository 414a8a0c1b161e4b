//! The health report: how the last days were, held against what counts as healthy.

mod policy;

use crate::control::status;
use crate::error::Result;
use crate::port::Ports;
use crate::schedule::{Chore, Ran, Task};
use crate::settings::Settings;
use crate::wiring::Wiring;
use async_trait::async_trait;
use chrono::TimeDelta;
use policy::Now;
use serde_json::{Value, json};
use std::sync::Arc;

/// The days of a report that nobody asked for.
const WEEK: u32 = 7;

/// Writes the report as a task of the calendar.
pub struct WeeklyReport {
    ports: Ports,
    settings: Arc<Settings>,
}

impl WeeklyReport {
    pub fn new(wiring: &Wiring) -> Self {
        Self { ports: wiring.ports.clone(), settings: Arc::clone(&wiring.settings) }
    }

    async fn write(&self) -> Result<String> {
        let (text, figures) = make(&self.ports, &self.settings, WEEK).await?;
        let path = self.ports.projector.keep_report(&text, &figures).await?;
        let verdict = figures["verdict"].as_str().unwrap_or("unknown");
        Ok(format!("health report written to {path}: {verdict}"))
    }
}

#[async_trait]
impl Chore for WeeklyReport {
    fn task(&self) -> Task {
        Task::Report
    }
    fn times(&self) -> &str {
        &self.settings.dashboard.report_at
    }
    async fn run(&self) -> Ran {
        self.write().await.into()
    }
}

/// The report as text and as figures.
pub async fn make(ports: &Ports, settings: &Settings, days: u32) -> Result<(String, Value)> {
    let until = ports.clock.now();
    let period = ports.ledger.period(until - TimeDelta::days(i64::from(days)), until).await?;
    let document = status::document(ports, settings).await?;
    let resources = &document["resources"];
    let used = || {
        let (free, total) = (resources["disk_free_bytes"].as_f64()?, resources["disk_total_bytes"].as_f64()?);
        (total > 0.0).then(|| 1.0 - free / total)
    };
    let now = Now {
        disk_used: used(),
        home_bytes: resources["home_bytes"].as_u64(),
        fullest: document["sessions"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|s| s["usage"]["usage_ratio"].as_f64())
            .reduce(f64::max),
        firing: document["alerts"].as_array().map_or(0, Vec::len),
    };
    let measures = policy::measures(&period, &now, f64::from(days));
    let verdict = policy::verdict(&measures);
    let text = policy::text(&period, &now, &measures, verdict);
    let figures = json!({
        "days": days, "verdict": verdict, "period": period, "firing": now.firing, "disk_used": now.disk_used,
        "home_bytes": now.home_bytes, "measures": measures, "health": document["health"], "backups": document["backups"],
    });
    Ok((text, figures))
}
