//! Compresses a file that nobody writes any more, and lets go of the original only when the copy was read back.

use super::names;
use crate::durable::{self, Seen};
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use moon_actors::domain::Sha256;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

/// Compresses `path` to `path.gz` and removes it. Returns the bytes that are free now; `None` when the file was written meanwhile and
/// stays. A copy that is there already (the last try was cut off) is believed only if it holds the same bytes.
pub(super) fn compress(path: &Path) -> io::Result<Option<u64>> {
    let Some(before) = Seen::of(path)? else { return Ok(None) };
    let mut source = durable::open_regular(path)?;
    let to = names::compressed(path);
    let sha256 = match hash_of_copy(&to) {
        Ok(Some(sha256)) if sha256 == hash(&mut File::open(path)?)? => sha256,
        Ok(None) => write(&mut source, &to)?,
        // Something else has that name, and nothing is ever overwritten.
        _ => {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                format!("{} is there and holds something else", to.display()),
            ));
        }
    };
    let is_same = hash_of_copy(&to)? == Some(sha256);
    if Seen::of(path)?.as_ref() != Some(&before) {
        durable::remove(&to)?;
        return Ok(None);
    }
    if !is_same {
        durable::remove(&to)?;
        return Err(io::Error::new(io::ErrorKind::InvalidData, "what was written is not what can be read back"));
    }
    let (was, is) = (source.metadata()?.len(), std::fs::metadata(&to)?.len());
    durable::remove(path)?;
    Ok(Some(was.saturating_sub(is)))
}

/// Writes the copy and returns the hash of what went in.
fn write(source: &mut File, to: &Path) -> io::Result<Sha256> {
    let written = source.metadata()?.modified()?;
    let mut hash = None;
    durable::replace_with(to, |file| {
        let mut encoder = GzEncoder::new(&mut *file, Compression::default());
        hash = Some(copy(source, &mut encoder)?);
        encoder.finish()?;
        // The age of the lines, not of the copy.
        file.set_modified(written)
    })?;
    hash.ok_or_else(|| io::Error::other("nothing was written"))
}

/// The hash of what a compressed file holds; `None` when there is none.
fn hash_of_copy(path: &Path) -> io::Result<Option<Sha256>> {
    match durable::open_from_disk(path) {
        Ok(file) => hash(&mut GzDecoder::new(file)).map(Some),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

fn hash(from: &mut impl Read) -> io::Result<Sha256> {
    copy(from, &mut io::sink())
}

fn copy(from: &mut impl Read, to: &mut impl Write) -> io::Result<Sha256> {
    use sha2::Digest as _;
    let mut hasher = sha2::Sha256::new();
    let mut block = vec![0; 64 << 10];
    loop {
        match from.read(&mut block)? {
            0 => break,
            read => {
                hasher.update(&block[..read]);
                to.write_all(&block[..read])?;
            }
        }
    }
    let hex = data_encoding::HEXLOWER.encode(&hasher.finalize());
    Ok(Sha256::parse(&hex).expect("a hash in hexadecimal"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(path: &Path) -> Vec<u8> {
        let mut text = Vec::new();
        GzDecoder::new(File::open(path).expect("there")).read_to_end(&mut text).expect("gzip");
        text
    }

    #[test]
    fn a_compressed_file_holds_the_same_bytes_and_the_original_is_gone() {
        let scratch = tempfile::tempdir().expect("a scratch folder");
        let path = scratch.path().join("a.log-1");
        let text = "a line\n".repeat(50_000).into_bytes();
        std::fs::write(&path, &text).expect("written");
        let freed = compress(&path).expect("compressed").expect("it was there");
        assert!(freed > 300_000, "{freed}");
        assert_eq!((content(&names::compressed(&path)), path.exists()), (text, false));
        assert_eq!(compress(&path).expect("done before"), None);
    }

    #[test]
    fn a_copy_left_by_a_crash_is_used_if_it_is_whole_and_never_overwritten_if_it_is_something_else() {
        let scratch = tempfile::tempdir().expect("a scratch folder");
        let path = scratch.path().join("a.log-1");
        std::fs::write(&path, "one\n").expect("written");
        write(&mut File::open(&path).expect("there"), &names::compressed(&path)).expect("a copy");
        compress(&path).expect("the copy is whole");
        assert_eq!((content(&names::compressed(&path)), path.exists()), (b"one\n".to_vec(), false));
        std::fs::write(&path, "two\n").expect("another");
        assert_eq!(compress(&path).expect_err("in the way").kind(), io::ErrorKind::AlreadyExists);
        std::fs::write(names::compressed(&path), "not gzip").expect("rubbish");
        assert_eq!(compress(&path).expect_err("in the way").kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read(&path).expect("still there"), b"two\n");
    }
}
