//! Reads a file while another thread writes it: what was written is read back from the file itself, and never more than that.
//!
//! The end is there once the writer has said that it wrote all. It decides nothing about what it reads: bytes that are read before the
//! file is synced are what the file will hold only if it is read once more afterwards.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Never waited for more than this, bytes.
const ENOUGH: usize = 128 << 10;

#[derive(Default)]
struct State {
    written: u64,
    is_whole: bool,
    /// Nothing more is to be read, for whatever reason.
    is_over: bool,
    /// Nobody reads any more.
    is_left: bool,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
        self.changed.notify_all();
    }
}

/// Follows `file`, which is empty and will be written through another handle.
pub(super) fn follow(file: File) -> (Growing, Follower, Leash) {
    let shared = Arc::new(Shared::default());
    (Growing(Arc::clone(&shared)), Follower { file, at: 0, shared: Arc::clone(&shared) }, Leash(shared))
}

/// For who writes. Dropped before the file is whole, it ends the following with an error.
pub(super) struct Growing(Arc<Shared>);

impl Growing {
    /// An error once nobody follows any more: to go on would be in vain.
    pub(super) fn grew(&self, bytes: u64) -> io::Result<()> {
        self.0.change(|state| state.written += bytes);
        if self.0.state().is_left { Err(io::Error::other("whoever followed the file gave up")) } else { Ok(()) }
    }
    /// Nothing more comes.
    pub(super) fn end(self) {
        self.0.change(|state| state.is_whole = true);
    }
}

impl Drop for Growing {
    fn drop(&mut self) {
        self.0.change(|state| state.is_over |= !state.is_whole);
    }
}

/// Ends the following from outside when it is dropped.
pub(super) struct Leash(Arc<Shared>);

impl Drop for Leash {
    fn drop(&mut self) {
        self.0.change(|state| state.is_over = true);
    }
}

/// Reads behind the writer.
pub(super) struct Follower {
    file: File,
    at: u64,
    shared: Arc<Shared>,
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.shared.change(|state| state.is_left = true);
    }
}

impl Read for Follower {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        // As much as is asked for, or all there will be: for every few bytes to be woken costs more than to wait.
        let enough = into.len().clamp(1, ENOUGH) as u64;
        let mut state = self.shared.state();
        let there = loop {
            if state.is_over {
                return Err(io::Error::other("what was followed is not written any more"));
            }
            let there = state.written - self.at;
            if there >= enough || state.is_whole {
                break there;
            }
            state = self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        };
        drop(state);
        let wanted = into.len().min(usize::try_from(there).unwrap_or(usize::MAX));
        let read = self.file.read_at(&mut into[..wanted], self.at)?;
        if read == 0 && wanted > 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file is shorter than what was written"));
        }
        self.at += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn file() -> (File, File) {
        let file = tempfile::tempfile().expect("a file");
        (file.try_clone().expect("a second handle"), file)
    }

    #[test]
    fn every_byte_is_read_back_while_it_is_written_and_the_end_waits_for_the_writer() {
        let (mut file, same) = file();
        let (growing, mut follower, leash) = follow(same);
        let reader = std::thread::spawn(move || {
            let mut read = Vec::new();
            follower.read_to_end(&mut read).map(|_| read)
        });
        let mut expected = Vec::new();
        for n in 0..100u8 {
            let bytes = vec![n; usize::from(n) * 37];
            file.write_all(&bytes).expect("written");
            growing.grew(bytes.len() as u64).expect("followed");
            expected.extend(bytes);
        }
        assert!(!reader.is_finished(), "more may come");
        growing.end();
        assert_eq!(reader.join().expect("no panic").expect("read"), expected);
        drop(leash);
    }

    #[test]
    fn a_writer_that_gives_up_and_whoever_wants_no_more_end_the_reading() {
        let (mut file, same) = file();
        let (growing, mut follower, _leash) = follow(same);
        file.write_all(b"half").expect("written");
        growing.grew(4).expect("followed");
        assert_eq!(follower.read(&mut [0; 4]).expect("what is there"), 4);
        drop(growing);
        assert!(follower.read(&mut [0; 9]).is_err(), "it is not whole");
        let (growing, follower, _leash) = follow(file.try_clone().expect("a handle"));
        drop(follower);
        assert!(growing.grew(4).is_err(), "nobody follows");
        let (growing, mut follower, leash) = follow(file);
        growing.end();
        drop(leash);
        assert!(follower.read(&mut [0; 9]).is_err(), "nobody wants it");
    }

    #[test]
    fn a_file_that_holds_less_than_was_written_is_no_end() {
        let (mut file, same) = file();
        let (growing, mut follower, _leash) = follow(same);
        file.write_all(b"four").expect("written");
        growing.grew(5).expect("followed");
        growing.end();
        let error = follower.read_to_end(&mut Vec::new()).expect_err("a byte is missing");
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
