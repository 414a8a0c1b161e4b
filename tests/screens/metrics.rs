//! Prometheus text, against promtool and the node exporter.

use super::*;
use crate::page::get;
use std::io::Write;
use std::net::TcpStream;
use std::process::Stdio;

#[test]
fn the_metrics_pass_promtool_and_the_node_exporter_picks_them_up() {
    let scratch = with_sessions(&HOSTILE);
    // The first metrics are written when the daemon starts: the sessions are known by then.
    scratch.run(&["watch", "--once"]).expect(0);
    let folder = scratch.path().join("textfile");
    std::fs::create_dir(&folder).expect("a folder");
    let file = folder.join("moon.prom");
    let daemon = scratch.daemon(&[
        "--set",
        &format!("dashboard.textfile={}", file.display()),
        "--set",
        "dashboard.textfile_mode=0640",
    ]);
    let text = wait_for("the metrics", || {
        std::fs::read_to_string(&file).ok().filter(|text| text.contains("moon_session_usage_ratio{"))
    });
    assert_eq!(
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&file).expect("there").permissions()) & 0o777,
        0o640
    );
    assert!(text.contains("moon_up 1\n") && text.contains("moon_jobs{stage=\"archive\",state=\"waiting\"} "), "{text}");
    let (Some(mut promtool), Some(mut exporter)) =
        (support::debian_command("promtool"), support::debian_command("prometheus-node-exporter"))
    else {
        return support::skip("the_metrics_pass_promtool", "prometheus is not in target/peers/debian");
    };
    let mut check = promtool
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool starts");
    check.stdin.take().expect("piped").write_all(text.as_bytes()).expect("read");
    let checked = check.wait_with_output().expect("promtool ends");
    assert!(checked.status.success() && checked.stderr.is_empty() && checked.stdout.is_empty(), "{checked:?}");
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port();
    let child = exporter
        .args([
            "--collector.disable-defaults",
            "--collector.textfile",
            &format!("--web.listen-address=127.0.0.1:{port}"),
        ])
        .arg(format!("--collector.textfile.directory={}", folder.display()))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the exporter starts");
    let _end = Ends(child);
    let scraped = wait_for("the exporter", || {
        TcpStream::connect(("127.0.0.1", port)).ok()?;
        Some(get(port, "/metrics", "")).filter(|text| text.contains("moon_up 1"))
    });
    assert!(
        scraped.contains("node_textfile_scrape_error 0")
            && scraped.contains("moon_session_usage_ratio{session=\"transcripts:<script>"),
        "{scraped}"
    );
    daemon.stop();
    let last = std::fs::read_to_string(&file).expect("there");
    assert!(last.contains("moon_up 0\n"), "the last word is that nobody writes any more: {last}");
}

struct Ends(std::process::Child);
impl Drop for Ends {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
