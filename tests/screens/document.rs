//! One document on every screen: whole, with holes, of another version.

use super::*;

#[test]
fn a_document_of_another_version_or_with_holes_is_shown_as_far_as_it_goes() {
    for document in [
        json!({}),
        json!(null),
        json!({"sessions": [{}], "alerts": [{}], "tree": 3, "health": {"checks": [{}]}, "backups": {}, "chores": [{}], "pipeline": [{}]}),
    ] {
        let view = View::of(&document);
        moon::screens::page::Pages::new().expect("templates").file(&document).expect("a page");
        assert!(!moon::screens::tui::printed(&view, 60).is_empty() && !moon::screens::plain::lines(&view).is_empty());
        moon::screens::metrics::text(&document);
        moon::screens::source::dashboard(document);
    }
}

/// A document with everything in it, as a made-up system would have it.
pub(crate) fn sample() -> Value {
    let now = chrono::Utc::now();
    let ago = |minutes: i64| json!(now - chrono::TimeDelta::minutes(minutes));
    let session = |key: &str, used: u64, running: bool, age: u64| {
        json!({ "key": key, "usage": { "usage_ratio": used as f64 / 200_000.0, "used_tokens": used, "max_tokens": 200_000 },
            "stale": age > 300, "age_seconds": age, "running": running, "phase": "Normal", "prunes_since_rollover": used / 70_000,
            "undistilled": used / 900 })
    };
    let wave = |cells: usize, from: f64, slope: f64, top: f64| -> Vec<Option<f64>> {
        let mut level = from;
        let mut next = |n: usize| {
            level += slope * (0.6 + 0.4 * ((n * 7 % 11) as f64 / 5.0));
            if level > top {
                level = if n.is_multiple_of(2) { 0.44 } else { 0.12 };
            }
            (n >= cells / 9).then_some((level * 1000.0).round() / 1000.0)
        };
        (0..cells).map(&mut next).collect()
    };
    let track = |key: &str, from: f64, slope: f64, top: f64| json!({ "session": key, "day": wave(96, from, slope, top), "quarter": wave(90, from, slope * 2.3, top) });
    let stage = |name: &str, (waiting, claimed, failing): (u64, u64, u64), done: i64| json!({ "stage": name, "waiting": waiting, "claimed": claimed, "failing": failing, "failed": 0, "last_done": ago(done) });
    let actor = |name: &str, restarts: u64, children: Value| {
        json!({ "name": name, "path": format!("moon/{name}"), "kind": "vital", "phase": "up", "restarts": restarts,
            "crashes_in_window": restarts, "last_error": if restarts > 0 { json!("panicked: index out of room") } else { Value::Null },
            "since": { "secs": 273_900, "nanos": 0 }, "children": children })
    };
    let check = |name: &str, state: &str, reason: &str| {
        let alerts = if state == "ok" { json!([]) } else { json!([{ "rule": "disk_low", "subject": "moon" }]) };
        json!({ "name": name, "alerts": alerts, "state": state, "reason": reason, "hint": "prune old backups, or move them to a larger disk",
            "since": ago(200), "checked_at": ago(2), "took_ms": 3, "figures": {} })
    };
    json!({
        "generated_at": now, "moon": env!("CARGO_PKG_VERSION"), "home": "~/.lilac_metaflora", "mode": "lead",
        "liveness": { "state": "live", "said": "the daemon is running", "pid": 4711, "since": ago(4_565), "heartbeat_at": now },
        "thresholds": { "archive": 0.8, "prune": 0.85, "distill": 0.9 },
        "host": { "description": "OpenClaw gateway at ws://127.0.0.1:18789, connected" },
        "bridge": { "alive": true, "detail": "loaded by the gateway, 3 s ago" },
        "sessions": [
            session("agent:main:main", 173_400, true, 4), session("agent:main:telegram:family", 122_900, false, 61),
            session("agent:research:main", 84_100, false, 890), session("agent:main:cron:morning", 21_700, false, 7_200),
        ],
        "usage_history": [
            track("agent:main:main", 0.2, 0.021, 0.9), track("agent:main:telegram:family", 0.35, 0.006, 0.86),
            track("agent:research:main", 0.1, 0.013, 0.88), track("agent:main:cron:morning", 0.05, 0.001, 0.8),
        ],
        "totals": { "segments": 1_204, "records": 48_211, "bytes": 96_870_000, "unindexed": 0, "distillations": 61, "rollovers": 14,
            "audit_rows": 9_377, "open_cycles": 1, "waiting_jobs": 1, "quarantined_jobs": 0 },
        "alerts": [{ "id": 9, "key": { "rule": "disk_low", "subject": "moon" }, "severity": "warning", "fired_at": ago(192),
            "message": "4.2 GB are free on the disk of the home, less than 5 GB", "hint": "prune old backups, or move them to a larger disk", "resolved_at": null }],
        "recent_alerts": [
            { "rule": "disk_low", "subject": "moon", "severity": "warning", "message": "4.2 GB are free on the disk of the home, less than 5 GB", "fired_at": ago(192), "resolved_at": null },
            { "rule": "index.failing", "subject": "agent:research:main", "severity": "critical", "message": "index of agent:research:main: the index is locked", "fired_at": ago(611), "resolved_at": ago(604) },
        ],
        "pipeline": [stage("archive", (0, 1, 0), 1), stage("index", (1, 0, 0), 3), stage("prune", (0, 0, 0), 47), stage("distill", (0, 0, 0), 380), stage("continuity", (0, 0, 0), 380)],
        "chores": [
            { "task": "backup", "done_at": ago(430), "is_done": true, "attempts": 1, "ended_at": ago(430), "said": "ok" },
            { "task": "drill", "done_at": ago(6_900), "is_done": true, "attempts": 1, "ended_at": ago(6_900), "said": "ok" },
            { "task": "report", "done_at": ago(6_600), "is_done": true, "attempts": 1, "ended_at": ago(6_600), "said": "ok" },
            { "task": "rotation", "done_at": ago(550), "is_done": true, "attempts": 1, "ended_at": ago(550), "said": "ok" },
        ],
        "health": { "verdict": "warning", "checks": [
            check("process", "ok", "pid 4711 is up"), check("heartbeat", "ok", "12 s old"), check("ledger", "ok", "integrity and foreign keys are ok"),
            check("disk", "warning", "4.2 GB free, less than 5 GB"), check("backup", "ok", "verified 7 h ago"), check("mail_bridge", "ok", "port 1143 answers"),
        ] },
        "backups": { "newest": { "id": "20261121_020000", "at": ago(430), "bytes": 31_400_000 }, "newest_verified": { "id": "20261121_020000", "at": ago(430), "bytes": 31_400_000, "verified_at": ago(429) },
            "count": 16, "bytes": 488_000_000, "last_drill": { "at": ago(6_900), "ok": true, "said": "restored and compared" } },
        "resources": { "pid": 4711, "rss_bytes": 18_400_000, "cpu_ms": 41_700, "uptime_secs": 273_900, "open_files": 31, "home_bytes": 612_000_000, "home_files": 4_318,
            "databases": 2, "database_bytes": 71_000_000, "log_files": 9, "log_bytes": 14_200_000, "disk_free_bytes": 4_200_000_000u64, "disk_total_bytes": 128_000_000_000u64 },
        "tree": [actor("alert", 0, json!([])), actor("projection", 0, json!([])), actor("pipeline", 0, json!([
            actor("archive", 0, json!([])), actor("index", 1, json!([])), actor("prune", 0, json!([])), actor("distill", 0, json!([])),
            actor("continuity", 0, json!([])), actor("threshold", 0, json!([])), actor("usage", 0, json!([])), actor("bridge", 0, json!([])) ])),
            actor("screens", 0, json!([actor("report", 0, json!([])), actor("pages", 0, json!([])), actor("web", 0, json!([]))])),
            actor("control", 0, json!([actor("router", 0, json!([])), actor("socket", 0, json!([]))]))],
    })
}

#[test]
fn health_backups_and_the_calendar_are_on_every_screen() {
    let document = sample();
    let view = View::of(&document);
    let page = moon::screens::page::Pages::new().expect("templates").file(&document).expect("a page");
    let printed = moon::screens::tui::printed(&view, 140).join("\n");
    for text in [&page, &printed] {
        for part in [
            "20261121_020000",
            "4.2 GB are free",
            "mail_bridge",
            "index.failing",
            "restore drill",
            "rotation",
            "86.7 %",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
    let status = moon::screens::plain::lines(&view).join("\n");
    assert!(
        status.contains("health    warning: 5 of 6 checks ok") && status.contains("newest verified: 20261121_020000"),
        "{status}"
    );
    let mut young = document.clone();
    young["health"] = json!({ "verdict": "unknown", "checks": [] });
    let said = moon::screens::plain::lines(&View::of(&young)).join("\n");
    assert!(said.contains("health    the first checks are under way"), "{said}");
    let troubles = moon::screens::plain::troubles(&view);
    assert_eq!(
        troubles[0].0,
        "warning: disk_low moon: 4.2 GB are free on the disk of the home, less than 5 GB (for 3h 12m)"
    );
    let metrics = moon::screens::metrics::text(&document);
    for line in [
        "moon_health_check_state{check=\"disk\"} 1",
        "moon_restore_drill_success 1",
        "moon_actor_restarts_total{actor=\"index\"} 1",
        "moon_session_usage_ratio{session=\"agent:main:main\"} 0.867",
    ] {
        assert!(metrics.contains(&format!("{line}\n")), "{line}: {metrics}");
    }
    let mut a_thousand = document.clone();
    a_thousand["sessions"] =
        (0..1000).map(|n| json!({ "key": format!("s{n}"), "usage": { "usage_ratio": 0.5 } })).collect();
    let metrics = moon::screens::metrics::text(&a_thousand);
    assert_eq!(metrics.matches("moon_session_usage_ratio{").count(), 20, "labels are bounded");
    let json = moon::screens::source::dashboard(document);
    assert_eq!((&json["backup"]["latest"], &json["email"]["status"]), (&json!("20261121_020000"), &json!("ok")));
}

#[test]
fn a_failing_check_is_shown_once_as_the_alert_that_people_were_told() {
    let mut document = sample();
    let said = |document: &Value| -> Vec<String> {
        let troubles = moon::screens::plain::troubles(&View::of(document));
        troubles.into_iter().map(|(text, _)| text).collect()
    };
    assert_eq!(
        said(&document),
        ["warning: disk_low moon: 4.2 GB are free on the disk of the home, less than 5 GB (for 3h 12m)"]
    );
    // One that nothing fires for is shown by itself, whatever other alerts are called.
    document["health"]["checks"][3]["alerts"] = json!([]);
    assert_eq!(said(&document)[1], "warning: check disk: 4.2 GB free, less than 5 GB");
    document["health"]["checks"][3]["alerts"] = json!([{ "rule": "disk_low", "subject": "elsewhere" }]);
    assert_eq!(said(&document).len(), 2);
}
