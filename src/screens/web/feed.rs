//! News for the browsers that look: made once for all of them, and only while there is one.

use super::Site;
use axum::response::Sse;
use axum::response::sse::Event;
use futures_util::Stream;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::mpsc;

/// Most browsers at a time.
const MOST: usize = 8;
/// News that may wait for a browser before it is given up on.
const WAITING: usize = 4;
const EVERY: Duration = Duration::from_secs(2);
/// A sign of life is sent after this many looks without news.
const QUIET_LOOKS: u32 = 5;

#[derive(Default)]
pub(super) struct Feed {
    readers: Mutex<Vec<mpsc::Sender<Event>>>,
    is_working: AtomicBool,
}

impl Feed {
    /// A stream of news for one more browser; `None` when there are too many.
    pub(super) fn join(site: &Arc<Site>) -> Option<Sse<impl Stream<Item = Result<Event, Infallible>> + use<>>> {
        let (send, receive) = mpsc::channel(WAITING);
        {
            let mut readers = site.feed.lock();
            readers.retain(|reader| !reader.is_closed());
            if readers.len() >= MOST {
                return None;
            }
            readers.push(send);
        }
        if !site.feed.is_working.swap(true, Ordering::AcqRel) {
            tokio::spawn(work(Arc::clone(site)));
        }
        Some(Sse::new(News(receive)))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<mpsc::Sender<Event>>> {
        self.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Drops whoever has gone or does not read, and says whether anybody is left. Under one lock with the answer, so that nobody who
    /// joins meanwhile is left without a worker.
    fn tell(&self, event: &Event) -> bool {
        let mut readers = self.lock();
        readers.retain(|reader| reader.try_send(event.clone()).is_ok());
        if readers.is_empty() {
            self.is_working.store(false, Ordering::Release);
        }
        !readers.is_empty()
    }
}

struct News(mpsc::Receiver<Event>);

impl Stream for News {
    type Item = Result<Event, Infallible>;
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(cx).map(|event| event.map(Ok))
    }
}

/// Looks every two seconds while somebody reads; sends what has changed, and a sign of life when nothing has.
async fn work(site: Arc<Site>) {
    let (mut quiet, mut before) = (0, String::new());
    loop {
        let event = match site.document().await.and_then(|document| site.pages.middle(&document)) {
            Ok(middle) if middle != before => {
                before = middle;
                quiet = 0;
                Some(Event::default().event("middle").data(before.replace('\r', "")))
            }
            Ok(_) => {
                quiet += 1;
                quiet %= QUIET_LOOKS;
                (quiet == 0).then(|| Event::default().event("beat").data("."))
            }
            // No sign of life: the browsers say themselves that it is gone.
            Err(_) => Some(Event::default().comment("waiting")),
        };
        let event = event.unwrap_or_else(|| Event::default().comment("."));
        if !site.feed.tell(&event) {
            return;
        }
        tokio::time::sleep(EVERY).await;
    }
}
