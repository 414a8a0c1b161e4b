//! The health report as a task of the calendar leaves it.

use super::*;

#[tokio::test]
async fn the_report_is_kept_as_a_file_of_the_day_with_its_figures() {
    use moon_actors::report::WeeklyReport;
    use moon_actors::schedule::Chore;
    let scratch = Scratch::new();
    let (home, _) = moon::home::Home::open(scratch.home()).expect("a home");
    let settings = moon_actors::settings::Settings::default();
    let host = std::sync::Arc::new(moon::adapters::no_host::NoHost::not_needed());
    let (ports, ledger) = moon::daemon::ports::open(&home, &settings, host).expect("ports");
    moon::daemon::ports::begin(&ports, &ledger).await.expect("a life");
    let wiring = moon::daemon::ports::alone(ports, settings);
    let said = WeeklyReport::new(&wiring).run().await.said.expect("written");
    let files: Vec<String> = std::fs::read_dir(home.logs_dir())
        .expect("logs")
        .flatten()
        .map(|f| f.file_name().to_string_lossy().into_owned())
        .collect();
    let log = files.iter().find(|name| name.starts_with("weekly_health_") && name.ends_with(".log")).expect("a report");
    let text = std::fs::read_to_string(home.logs_dir().join(log)).expect("readable");
    assert!(
        said.contains(log.as_str()) && text.starts_with("Health report, ") && text.contains("disk used"),
        "{said}\n{text}"
    );
    let figures: Value =
        serde_json::from_slice(&std::fs::read(home.logs_dir().join(log.replace(".log", ".json"))).expect("figures"))
            .expect("JSON");
    assert_eq!((&figures["days"], figures["measures"].as_array().map(Vec::len)), (&json!(7), Some(6)));
}
