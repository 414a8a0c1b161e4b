//! A container with a real systemd as its first process: this machine's own `/usr`, everything else fresh, gone with the test.
//!
//! `systemd-nspawn` comes from the unpacked Debian packages; root is needed. It boots in well under a second, because nothing is
//! copied. Nothing of the machine can be changed from inside: `/usr` is mounted read-only, the network is apart.

use super::{debian_command, debian_peers, skip};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

/// A boot, the probe and a power-off take less, also on a busy machine.
const LIMIT: Duration = Duration::from_secs(180);

pub struct Container {
    folder: tempfile::TempDir,
}

impl Container {
    /// A root file system that is ready to boot; `None` and a skip where that cannot be.
    pub fn make(test: &str) -> Option<Self> {
        let missing = if !rustix::process::geteuid().is_root() {
            "only root can run a container"
        } else if !Path::new("/usr/lib/systemd/systemd").is_file() || !Path::new("/bin").is_symlink() {
            "this machine has no systemd with a merged /usr"
        } else if !debian_peers().is_some_and(|root| root.join("usr/bin/systemd-nspawn").is_file()) {
            "systemd-nspawn is not unpacked in target/peers (tests/run does that)"
        } else {
            ""
        };
        if !missing.is_empty() {
            skip(test, missing);
            return None;
        }
        let folder = tempfile::Builder::new().prefix("moon-test-container-").tempdir().expect("a scratch folder");
        let container = Self { folder };
        container.furnish();
        Some(container)
    }

    fn furnish(&self) {
        let folders = "usr etc/systemd/system/multi-user.target.wants proc sys dev run tmp root var/lib var/spool/cron/crontabs etc/pam.d opt/lab out home/ada";
        for folder in folders.split(' ') {
            std::fs::create_dir_all(self.root().join(folder)).expect("a folder");
        }
        for link in ["bin", "sbin", "lib", "lib64"] {
            symlink(format!("usr/{link}"), self.root().join(link)).expect("a link");
        }
        let system = self.root().join("etc/systemd/system");
        symlink("/usr/lib/systemd/system/multi-user.target", system.join("default.target")).expect("a link");
        symlink("../probe.service", system.join("multi-user.target.wants/probe.service")).expect("a link");
        self.write("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nmessagebus:x:101:101::/nonexistent:/bin/false\nnobody:x:65534:65534::/nonexistent:/bin/false\nada:x:1000:1000::/home/ada:/bin/sh\n");
        self.write(
            "etc/group",
            "root:x:0:\ntty:x:5:\ncrontab:x:102:\nmessagebus:x:101:\nnogroup:x:65534:\nada:x:1000:\n",
        );
        // A user's own systemd begins a session.
        let session =
            "account required pam_permit.so\nsession required pam_permit.so\nsession optional pam_systemd.so\n";
        self.write("etc/pam.d/systemd-user", session);
        self.write("etc/machine-id", "0123456789abcdef0123456789abcdef\n");
        self.write("etc/os-release", "ID=moon-test\nVERSION_ID=1\n");
        self.write(
            "etc/systemd/system/probe.service",
            "[Service]\nType=oneshot\nTimeoutStartSec=170\nExecStart=/bin/sh -c \"sh /opt/lab/probe > /out/log 2>&1; systemctl poweroff --no-block --force\"\n",
        );
        let crontab = debian_peers().expect("looked for").join("usr/bin/crontab");
        if crontab.is_file() {
            self.program("crontab", &crontab);
        }
    }

    pub fn root(&self) -> &Path {
        self.folder.path()
    }
    pub fn write(&self, path: &str, text: &str) {
        std::fs::write(self.root().join(path), text).expect("written");
    }
    pub fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.root().join(path)).unwrap_or_default()
    }
    /// Puts a program into `/opt/lab`.
    pub fn program(&self, name: &str, from: &Path) -> PathBuf {
        let to = self.root().join("opt/lab").join(name);
        std::fs::copy(from, &to).expect("copied");
        std::fs::set_permissions(&to, std::fs::Permissions::from_mode(0o755)).expect("made a program");
        to
    }

    /// Boots, runs the probe as root, powers off. What the probe said, or the console where it said nothing.
    pub fn run(&self, probe: &str) -> String {
        self.write("opt/lab/probe", probe);
        let console = std::fs::File::create(self.root().join("out/console")).expect("a file");
        let both = console.try_clone().expect("a second handle");
        // For the probe it stands among its programs: everything else of the machine's is out of sight.
        let mut command = debian_command("systemd-nspawn").expect("looked for");
        command.args(["--quiet", "--boot", "--register=no", "--keep-unit", "--link-journal=no", "--private-network"]);
        command.arg("--directory").arg(self.root()).arg("--bind-ro=/usr");
        command.arg(format!("--machine=moon-test-{}", std::process::id()));
        let mut child =
            command.stdin(Stdio::null()).stdout(console).stderr(both).spawn().expect("systemd-nspawn starts");
        let begun = Instant::now();
        while child.try_wait().expect("a child can be waited for").is_none() {
            if begun.elapsed() > LIMIT {
                let _ = child.kill();
                let _ = child.wait();
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let said = self.read("out/log");
        if said.is_empty() { format!("console:\n{}", self.read("out/console")) } else { said }
    }
}
