//! Reads on a thread of its own, ahead of whoever works with what is read: to decompress and to write then go on side by side.
//!
//! So many buffers are on their way and no more. It decides nothing and changes no byte; an error comes where it happened.

use std::io::{self, BufRead, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

const BUFFER: usize = 256 << 10;
/// Buffers between the two threads.
const WAITING: usize = 8;

/// Hands `work` what `input` holds, and gives `input` back, read to its end or to where `work` stopped listening.
pub(super) fn ahead<R: Read + Send, T>(mut input: R, work: impl FnOnce(&mut (dyn BufRead + Send)) -> T) -> (T, R) {
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
        let read = fill_up(input, &mut buffer, BUFFER);
        let is_end = buffer.is_empty();
        if !is_end && send.send(Ok(buffer)).is_err() {
            return;
        }
        match read {
            Err(e) => return drop(send.send(Err(e))),
            Ok(()) if is_end => return,
            Ok(()) => {}
        }
    }
}

/// Makes `buffer`, which may be a used one, hold the next `wanted` bytes, or as many as there are before the end or an error.
///
/// Not by `read_to_end`: that asks for a few kilobytes at first, each time anew.
pub(super) fn fill_up(input: &mut impl Read, buffer: &mut Vec<u8>, wanted: usize) -> io::Result<()> {
    buffer.reserve_exact(wanted.saturating_sub(buffer.len()));
    buffer.resize(wanted, 0);
    let mut at = 0;
    let read = loop {
        if at == wanted {
            break Ok(());
        }
        match input.read(&mut buffer[at..]) {
            Ok(0) => break Ok(()),
            Ok(read) => at += read,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => break Err(e),
        }
    };
    buffer.truncate(at);
    read
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
        let there = self.fill_buf()?;
        let read = into.len().min(there.len());
        into[..read].copy_from_slice(&there[..read]);
        self.consume(read);
        Ok(read)
    }
}

impl BufRead for Received {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.at == self.now.len() {
            let Some(next) = self.full.as_ref().and_then(|full| full.recv().ok()) else {
                self.full = None;
                break;
            };
            let used = std::mem::replace(&mut self.now, next?);
            self.at = 0;
            if let Some(give_back) = &self.give_back {
                // Nobody waits for it at the end.
                let _ = give_back.try_send(used);
            }
        }
        Ok(&self.now[self.at..])
    }
    fn consume(&mut self, bytes: usize) {
        self.at += bytes;
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
