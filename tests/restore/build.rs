//! Writes archives for the tests, good ones and bad ones: raw headers, so that everything a tar program would refuse to write can be written.

use moon_actors::domain::Sha256;
use serde_json::{Value, json};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

pub(crate) const ID: &str = "20261120_020000";
/// When every member was changed, as the manifest says; the headers say another time.
pub(crate) const MTIME: i64 = 1_763_600_400;

/// One member with its raw header.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// Below the top folder, unless `whole_path`.
    pub(crate) path: Vec<u8>,
    pub(crate) kind: u8,
    pub(crate) body: Vec<u8>,
    pub(crate) mode: u32,
    pub(crate) uid: u64,
    pub(crate) link: Vec<u8>,
    pub(crate) is_whole_path: bool,
    /// The last word on the header's bytes, before its sum is made.
    pub(crate) twist: Option<fn(&mut [u8; 512])>,
    /// Written as it is in front of the header: extension headers.
    pub(crate) before: Vec<u8>,
}

impl Entry {
    pub(crate) fn file(path: &str, body: &[u8]) -> Self {
        let (kind, mode) = (b'0', 0o600);
        Self {
            path: path.as_bytes().to_vec(),
            kind,
            body: body.to_vec(),
            mode,
            uid: u64::from(rustix::process::geteuid().as_raw()),
            link: Vec::new(),
            is_whole_path: false,
            twist: None,
            before: Vec::new(),
        }
    }
    pub(crate) fn folder(path: &str) -> Self {
        Self { kind: b'5', mode: 0o700, ..Self::file(path, b"") }
    }
    pub(crate) fn of_kind(path: &str, kind: u8, link: &str) -> Self {
        Self { kind, link: link.as_bytes().to_vec(), ..Self::file(path, b"") }
    }

    fn bytes(&self, top: &str) -> Vec<u8> {
        let mut path = if self.is_whole_path { Vec::new() } else { format!("{top}/").into_bytes() };
        path.extend(&self.path);
        let mut bytes = self.before.clone();
        if path.len() > 100 {
            bytes.extend(pax(&[("path", &path)]));
            path.truncate(100);
        }
        bytes.extend(header(&path, self));
        bytes.extend(&self.body);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        bytes
    }
}

fn header(path: &[u8], entry: &Entry) -> [u8; 512] {
    let mut h = [0u8; 512];
    let mut put = |at: usize, bytes: &[u8]| h[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, path);
    put(100, format!("{:07o}\0", entry.mode).as_bytes());
    put(108, format!("{:07o}\0", entry.uid).as_bytes());
    put(116, b"0000000\0");
    put(124, format!("{:011o}\0", entry.body.len()).as_bytes());
    put(136, b"14755432100\0");
    put(148, b"        ");
    put(156, &[entry.kind]);
    put(157, &entry.link);
    put(257, b"ustar\x0000");
    if let Some(twist) = entry.twist {
        twist(&mut h);
    }
    let sum: u32 = h.iter().map(|b| u32::from(*b)).sum();
    h[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    h
}

/// An extension header with its body.
pub(crate) fn extension(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = header(b"PaxHeaders/x", &Entry { kind, body: body.to_vec(), ..Entry::file("", b"") }).to_vec();
    bytes.extend(body);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

pub(crate) fn pax(records: &[(&str, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (key, value) in records {
        let rest = key.len() + value.len() + 3;
        let mut length = rest + rest.to_string().len();
        length = rest + length.to_string().len();
        body.extend(format!("{length} {key}=").into_bytes());
        body.extend(*value);
        body.push(b'\n');
    }
    extension(b'x', &body)
}

/// An archive in parts, so that each can be spoilt.
#[derive(Clone, Debug)]
pub(crate) struct Parts {
    pub(crate) top: String,
    pub(crate) entries: Vec<Entry>,
    pub(crate) manifest: Value,
    pub(crate) has_manifest: bool,
    pub(crate) sums: Option<String>,
    pub(crate) has_sums: bool,
    /// Members behind the lists.
    pub(crate) behind: Vec<Entry>,
    pub(crate) end: Vec<u8>,
    /// Behind the compressed stream.
    pub(crate) tail: Vec<u8>,
}

impl Parts {
    /// A good archive of a home that nobody writes.
    pub(crate) fn of_home(home: &Path) -> Self {
        let mut parts = Self::empty();
        walk(home, "", &mut |path| {
            let full = home.join(path);
            if full.is_dir() {
                parts.entries.push(Entry::folder(&format!("home/{path}")));
                parts.list(&format!("home/{path}"), "folder", None);
            } else if path.ends_with(".db") {
                parts.add(&format!("home/{path}"), "sqlite", &copied(&full));
            } else {
                parts.add(&format!("home/{path}"), "file", &std::fs::read(&full).expect("readable"));
            }
        });
        let db = rusqlite::Connection::open(home.join("state/moon.db")).expect("a ledger");
        let number = |sql: &str| db.query_row(sql, [], |r| r.get::<_, i64>(0)).expect("a number");
        let head: Option<String> =
            db.query_row("SELECT sha256 FROM audit ORDER BY seq DESC LIMIT 1", [], |r| r.get(0)).ok();
        parts.manifest["ledger"] = json!({ "schema": number("PRAGMA user_version"),
            "audit_seq": number("SELECT COALESCE(MAX(seq), 0) FROM audit"), "audit_sha256": head });
        parts.manifest["home"] = json!(home);
        parts
    }

    pub(crate) fn empty() -> Self {
        let manifest = json!({ "format": "moon-backup", "version": 1, "id": ID, "created_at": "2026-11-20T02:00:00Z",
            "moon": "0.1.0", "host": "here", "home": "/somewhere", "include": [], "ledger": null, "members": [] });
        Self {
            top: ID.into(),
            entries: Vec::new(),
            manifest,
            has_manifest: true,
            sums: None,
            has_sums: true,
            behind: Vec::new(),
            end: vec![0; 1024],
            tail: Vec::new(),
        }
    }

    /// A member that is in the stream and in the manifest.
    pub(crate) fn add(&mut self, path: &str, kind: &str, body: &[u8]) {
        self.entries.push(Entry::file(path, body));
        self.list(path, kind, Some(body));
    }

    pub(crate) fn list(&mut self, path: &str, kind: &str, body: Option<&[u8]>) {
        let sha256 = body.map(|body| Sha256::of(body).as_str().to_owned());
        self.members()
            .push(json!({ "path": path, "kind": kind, "bytes": body.map_or(0, <[u8]>::len), "sha256": sha256,
            "mode": if kind == "folder" { "700" } else { "600" }, "mtime": MTIME }));
    }

    pub(crate) fn members(&mut self) -> &mut Vec<Value> {
        self.manifest["members"].as_array_mut().expect("a list")
    }

    /// The entry at a path, to be spoilt.
    pub(crate) fn entry(&mut self, path: &str) -> &mut Entry {
        self.entries.iter_mut().find(|e| e.path == path.as_bytes()).expect("an entry")
    }

    /// Replaces the content of a member everywhere.
    pub(crate) fn replace(&mut self, path: &str, body: &[u8]) {
        self.entry(path).body = body.to_vec();
        let at = self.members().iter().position(|m| m["path"] == path).expect("listed");
        self.members()[at]["bytes"] = json!(body.len());
        self.members()[at]["sha256"] = json!(Sha256::of(body).as_str());
    }

    pub(crate) fn sums(&self, manifest: &[u8]) -> String {
        let files = self.entries.iter().filter(|e| e.kind == b'0');
        let mut lines: Vec<(String, String)> = files
            .map(|e| (String::from_utf8_lossy(&e.path).into_owned(), Sha256::of(&e.body).as_str().to_owned()))
            .collect();
        if self.has_manifest {
            lines.push(("manifest.json".into(), Sha256::of(manifest).as_str().to_owned()));
        }
        lines.sort();
        lines.iter().map(|(path, hash)| format!("{hash}  {path}\n")).collect()
    }

    pub(crate) fn tar(&self) -> Vec<u8> {
        let manifest = serde_json::to_vec_pretty(&self.manifest).expect("JSON");
        let mut entries = self.entries.clone();
        if self.has_manifest {
            entries.push(Entry::file("manifest.json", &manifest));
        }
        if self.has_sums {
            let sums = self.sums.clone().unwrap_or_else(|| self.sums(&manifest));
            entries.push(Entry::file("checksums.sha256", sums.as_bytes()));
        }
        entries.extend(self.behind.clone());
        let mut bytes: Vec<u8> = entries.iter().flat_map(|e| e.bytes(&self.top)).collect();
        bytes.extend(&self.end);
        bytes
    }

    pub(crate) fn packed(&self) -> Vec<u8> {
        let mut packed = zstd(&self.tar());
        packed.extend(&self.tail);
        packed
    }
}

pub(crate) fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::stream::encode_all(bytes, 1).expect("zstd packs")
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("gzip packs");
    encoder.finish().expect("gzip packs")
}

/// Puts an archive with its sidecar into a folder of backups and names it the latest.
pub(crate) fn publish(backups: &Path, packed: &[u8]) {
    std::fs::create_dir_all(backups).expect("a folder");
    std::fs::set_permissions(backups, PermissionsExt::from_mode(0o700)).expect("rights");
    std::fs::write(backups.join(format!("{ID}.tar.zst")), packed).expect("an archive");
    let sidecar = json!({ "id": ID, "file": format!("{ID}.tar.zst"), "bytes": packed.len(), "encrypted": false,
        "sha256": Sha256::of(packed).as_str(), "created_at": "2026-11-20T02:00:00Z", "verified_at": null });
    std::fs::write(backups.join(format!("{ID}.json")), sidecar.to_string()).expect("a sidecar");
    std::fs::write(backups.join("latest"), ID).expect("latest");
    for entry in std::fs::read_dir(backups).expect("listable").flatten() {
        std::fs::set_permissions(entry.path(), PermissionsExt::from_mode(0o600)).expect("rights");
    }
}

/// A database as one consistent file.
pub(crate) fn copied(db: &Path) -> Vec<u8> {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let to = scratch.path().join("copy.db");
    let from = rusqlite::Connection::open(db).expect("a database");
    from.backup("main", &to, None).expect("a copy");
    std::fs::read(&to).expect("readable")
}

/// What a backup holds of a home: every file and folder but the machine's own.
pub(crate) fn walk(home: &Path, below: &str, see: &mut dyn FnMut(&str)) {
    let mut entries: Vec<_> = std::fs::read_dir(home.join(below)).expect("listable").flatten().collect();
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let name = entry.file_name().into_string().expect("a plain name");
        let path = if below.is_empty() { name } else { format!("{below}/{name}") };
        let is_machine = ["run", "backups", "index", "state/reserve.bin"].contains(&path.as_str());
        if is_machine || path.ends_with("-wal") || path.ends_with("-shm") {
            continue;
        }
        see(&path);
        if entry.file_type().expect("a type").is_dir() {
            walk(home, &path, see);
        }
    }
}
