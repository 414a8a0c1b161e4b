//! Where everything of the archive lies, relative to the home. Pure.
//!
//! Session keys and ids are foreign text: they go into a name only as a hash, beside a slug of harmless characters for people.
//! Paths that a ledger or a manifest gives are never used; they are made again from hashes and numbers and compared.

use moon_actors::domain::{Manifest, SessionKey, Sha256};

pub(super) const ROOT: &str = "archives";
pub(super) const OBJECTS: &str = "archives/objects";
pub(super) const SESSIONS: &str = "archives/sessions";
pub(super) const PROJECTIONS: &str = "archives/mlib";
pub(super) const DAMAGED: &str = "archives/damaged";
pub(super) const MANIFEST_SUFFIX: &str = ".manifest.json";

const SLUG_CHARS: usize = 40;

pub(super) fn object(sha256: &Sha256) -> String {
    let hex = sha256.as_str();
    format!("{OBJECTS}/{}/{hex}.jsonl.zst", &hex[..2])
}

pub(super) fn manifest(key: &SessionKey, session_id: &str, epoch: i64, ordinal: i64) -> String {
    format!("{SESSIONS}/{}/{}-{epoch}-{ordinal:06}{MANIFEST_SUFFIX}", session_folder(key), short(session_id))
}

pub(super) fn manifest_of(manifest: &Manifest) -> String {
    self::manifest(&manifest.session_key, &manifest.session_id, manifest.epoch, manifest.ordinal)
}

pub(super) fn projection(key: &SessionKey, session_id: &str, epoch: i64) -> String {
    format!("{PROJECTIONS}/{}/{}-{epoch}.md", session_folder(key), short(session_id))
}

/// `agent-main-main-3f2a91c07d55`
fn session_folder(key: &SessionKey) -> String {
    format!("{}-{}", slug(key.as_str()), short(key.as_str()))
}

fn short(text: &str) -> String {
    Sha256::of(text.as_bytes()).short().to_owned()
}

fn slug(text: &str) -> String {
    let mut slug = String::new();
    for c in text.chars() {
        if slug.len() == SLUG_CHARS {
            break;
        }
        if c.is_ascii_alphanumeric() {
            slug.push(c.to_ascii_lowercase());
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
    }
    let slug = slug.trim_end_matches('-');
    if slug.is_empty() { "session".into() } else { slug.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_readable() {
        let key = SessionKey::from("agent:main:main");
        let path = manifest(&key, "7f3c", 0, 12);
        let (key_hash, id_hash) = (short("agent:main:main"), short("7f3c"));
        assert_eq!(path, format!("archives/sessions/agent-main-main-{key_hash}/{id_hash}-0-000012.manifest.json"));
        assert_ne!(manifest(&SessionKey::from("AGENT:main:main"), "7f3c", 0, 12), path);
    }

    proptest! {
        /// Whatever a key holds, its path has the same depth, no step upwards and only harmless characters.
        #[test]
        fn foreign_text_never_shapes_a_path(key in "(\\PC|[/.\\x00-\\x1f]){0,80}", id in "(\\PC|[/.]){0,40}", epoch in 0i64..99) {
            for path in [manifest(&SessionKey(key.clone()), &id, epoch, 3), projection(&SessionKey(key.clone()), &id, epoch)] {
                prop_assert_eq!(path.split('/').count(), 4);
                prop_assert!(path.bytes().all(|b| b.is_ascii_alphanumeric() || b"/-.".contains(&b)), "{}", path);
                prop_assert!(!path.contains("..") && path.split('/').all(|part| part.len() < 80 && !part.starts_with('.')));
            }
        }
    }
}
