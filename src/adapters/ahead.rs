//! Reads on a thread of its own, ahead of whoever works with what is read: to decompress and to write then go on side by side.
//!
//! So many buffers are on their way and no more. It decides nothing and changes no byte; an error comes where it happened.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

const BUFFER: usize = 256 << 10;
/// Buffers between the two threads.
const WAITING: usize = 8;

/// Hands `work` what `input` holds, and gives `input` back, read to its end or to where `work` stopped listening.
pub(super) fn ahead<R: Read + Send, T>(mut input: R, work: impl FnOnce(&mut (dyn Read + Send)) -> T) -> (T, R) {
    let (send, full) = sync_channel(WAITING);
    let (give_back, empty) = sync_channel(WAITING);
    std::thread::scope(|scope| {
        let reader = scope.spawn(move || {
            fill(&mut input, &send, &empty);
            input
        });
        let mut received = Received { give_back: Some(give_back), ..Received::new(full) };
        let done = work(&mut received);
        // The reader ends when nobody listens any more.
        drop(received);
        (done, reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

fn fill(input: &mut impl Read, send: &SyncSender<io::Result<Vec<u8>>>, empty: &Receiver<Vec<u8>>) {
    loop {
        let mut buffer = empty.try_recv().unwrap_or_default();
        buffer.clear();
        buffer.reserve_exact(BUFFER);
        let read = input.take(BUFFER as u64).read_to_end(&mut buffer);
        let is_end = buffer.is_empty();
        if !is_end && send.send(Ok(buffer)).is_err() {
            return;
        }
        match read {
            Err(e) => return drop(send.send(Err(e))),
            Ok(_) if is_end => return,
            Ok(_) => {}
        }
    }
}

/// Reads what another thread sends, buffer by buffer, to the end of the last one.
pub(super) struct Received {
    /// `None` behind the end.
    full: Option<Receiver<io::Result<Vec<u8>>>>,
    /// For whoever fills used ones again.
    give_back: Option<SyncSender<Vec<u8>>>,
    now: Vec<u8>,
    at: usize,
}

impl Received {
    pub(super) fn new(full: Receiver<io::Result<Vec<u8>>>) -> Self {
        Self { full: Some(full), give_back: None, now: Vec::new(), at: 0 }
    }
}

impl Read for Received {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.at == self.now.len() {
            let Some(next) = self.full.as_ref().and_then(|full| full.recv().ok()) else {
                self.full = None;
                return Ok(0);
            };
            let used = std::mem::replace(&mut self.now, next?);
            self.at = 0;
            if let Some(give_back) = &self.give_back {
                // Nobody waits for it at the end.
                let _ = give_back.try_send(used);
            }
        }
        let read = into.len().min(self.now.len() - self.at);
        into[..read].copy_from_slice(&self.now[self.at..self.at + read]);
        self.at += read;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives this many bytes, then fails if it is to.
    struct Source(usize, Option<io::ErrorKind>);

    impl Read for Source {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let read = into.len().min(self.0).min(100_000);
            into[..read].fill(7);
            self.0 -= read;
            match self.1 {
                Some(kind) if read == 0 => Err(kind.into()),
                _ => Ok(read),
            }
        }
    }

    #[test]
    fn every_byte_arrives_and_the_reader_comes_back_at_its_end() {
        for bytes in [0, 1, BUFFER, 3 * BUFFER * WAITING + 17] {
            let (read, source) = ahead(Source(bytes, None), |input| io::copy(input, &mut io::sink()));
            assert_eq!((read.expect("readable") as usize, source.0), (bytes, 0));
        }
    }

    #[test]
    fn an_error_comes_behind_what_was_read_before_it() {
        let mut got = Vec::new();
        let (read, _) =
            ahead(Source(BUFFER + 5, Some(io::ErrorKind::InvalidData)), |input| input.read_to_end(&mut got));
        assert_eq!(read.expect_err("fails").kind(), io::ErrorKind::InvalidData);
        assert_eq!(got.len(), BUFFER + 5);
    }

    #[test]
    fn whoever_stops_listening_stops_the_reader() {
        let ((), source) = ahead(Source(usize::MAX, None), |input| input.read_exact(&mut [0; 10]).expect("readable"));
        assert!(source.0 > usize::MAX - BUFFER * (WAITING + 4));
    }
}
