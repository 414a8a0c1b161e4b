//! Lays out the program: what an idle daemon never calls is put behind all that it may call.
//!
//! A daemon that waits runs a third of its code, spread over all of it, and Linux maps 64 KiB around every page that runs: nearly the whole
//! program counted as resident. `seldom.txt` names the modules, types and functions that were not called from a daemon's start to its
//! idle minute (`record` writes it); the linker puts them into a section of their own. A name that is missing or has gone costs a few
//! KiB of memory and nothing else. And the table of addresses that the loader adjusts at each start is written in its short form (RELR: 10 KB
//! instead of 780) where this machine's C library reads it. Must never change what the program does, nor touch debug builds.
//!
//! For a linker without linker scripts (mold), or a program that is to run with a C library older than glibc 2.36:
//! `MOON_PLAIN_LINK=1 cargo build --release`.

use std::fmt::Write as _;
use std::path::Path;

const LIST: &str = "deploy/link/seldom.txt";
const PLAIN: &str = "MOON_PLAIN_LINK";

fn main() {
    println!("cargo:rerun-if-changed={LIST}");
    println!("cargo:rerun-if-env-changed={PLAIN}");
    let is = |name: &str, value: &str| std::env::var(name).is_ok_and(|set| set == value);
    if !is("CARGO_CFG_TARGET_OS", "linux") || !is("PROFILE", "release") || std::env::var_os(PLAIN).is_some() {
        return;
    }
    let list = std::fs::read_to_string(LIST).unwrap_or_else(|e| panic!("reading {LIST}: {e}"));
    let into = std::env::var("OUT_DIR").expect("cargo names a folder for what a build script makes");
    let into = Path::new(&into).join("seldom.ld");
    std::fs::write(&into, script(&list)).unwrap_or_else(|e| panic!("writing {}: {e}", into.display()));
    println!("cargo:rustc-link-arg-bin=moon=-Wl,-T,{}", into.display());
    if std::env::var("HOST") == std::env::var("TARGET") && glibc().is_some_and(|version| version >= RELR_SINCE) {
        println!("cargo:rustc-link-arg-bin=moon=-Wl,-z,pack-relative-relocs");
    }
}

/// The first glibc whose loader knows the short form of relocations.
const RELR_SINCE: (u32, u32) = (2, 36);

/// This machine's glibc, e.g. (2, 36); `None` with another C library.
fn glibc() -> Option<(u32, u32)> {
    let said = std::process::Command::new("getconf").arg("GNU_LIBC_VERSION").output().ok()?;
    let version = String::from_utf8(said.stdout).ok()?;
    let (major, minor) = version.trim().strip_prefix("glibc ")?.split_once('.')?;
    let digits = |text: &str| text.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok();
    Some((digits(major)?, digits(minor)?))
}

/// The linker script for a list. It adds to the linker's own: `INSERT`.
pub(crate) fn script(list: &str) -> String {
    let mut script = String::from("SECTIONS\n{\n  .text.seldom :\n  {\n");
    for name in list.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        for pattern in patterns(name) {
            writeln!(script, "    *(.text.{pattern} .text.unlikely.{pattern})").expect("a String takes it");
        }
    }
    script + "  }\n}\nINSERT AFTER .text;\n"
}

/// Patterns of the symbols that a line names: of C's functions `name()`, else of what lies in a module, a type or a function of Rust, or in
/// `<type as trait>`.
fn patterns(name: &str) -> Vec<String> {
    if let Some(function) = name.strip_suffix("()") {
        return vec![function.to_owned()];
    }
    // Methods of traits are named by their type: _ZN87_$LT$moon..adapters..backup..BackupVault$u20$as$u20$...
    let dotted = |path: &str| path.replace("::", "..");
    if let Some((of_type, rest)) = name.strip_prefix('<').and_then(|name| name.split_once(" as ")) {
        let (of_trait, method) =
            rest.split_once('>').unwrap_or_else(|| panic!("{LIST}: {name:?} has no closing bracket"));
        let (of_type, of_trait) = (dotted(of_type), dotted(of_trait));
        return vec![format!("_ZN*_$LT${of_type}$u20$as$u20${of_trait}$GT${}*", path(method.trim_start_matches("::")))];
    }
    let of_type = format!("_ZN*_$LT${}", dotted(name));
    vec![format!("_ZN{}*", path(name)), format!("{of_type}..*"), format!("{of_type}$*")]
}

/// A path as symbols hold it: each part behind its length.
fn path(name: &str) -> String {
    name.split("::").filter(|part| !part.is_empty()).map(|part| format!("{}{part}", part.len())).collect()
}
