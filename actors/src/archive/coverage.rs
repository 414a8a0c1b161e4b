//! Whether the archive covers a transcript, down to the byte: the proof behind every permit to reduce.
//!
//! Every object and manifest of the series is read from disk again and its hash compared; every record is compared with what the
//! host has *now*; and the host must have nothing behind the last archived record. Both sides are streamed segment by segment.

use super::engine::Archiver;
use crate::domain::{Record, Segment, Series, SessionRef, Sha256, SourceIdentity};
use crate::error::{Error, Result};
use std::collections::VecDeque;

pub(super) const DIFFERS: &str = "archive.source_differs";

/// A transcript that is archived completely, as seen at one moment. Only [`compare`] makes one.
#[derive(Clone, Debug, PartialEq)]
pub struct Coverage {
    series: Series,
    segments: Vec<Segment>,
    source: SourceIdentity,
}

impl Coverage {
    pub fn series(&self) -> &Series {
        &self.series
    }
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }
    pub fn source(&self) -> &SourceIdentity {
        &self.source
    }
    /// SHA-256 over the hashes of the segments in their order, one a line.
    pub fn digest(&self) -> Sha256 {
        let lines: String = self.segments.iter().map(|s| format!("{}\n", s.manifest.sha256)).collect();
        Sha256::of(lines.as_bytes())
    }
}

/// Compares a whole series with the host. Errors: `data` `archive.source_differs`, `conflict` `archive.behind` (the host
/// has more: archive first), and whatever the archive says when a file of its own is damaged.
pub async fn compare(archiver: &Archiver, series: &Series) -> Result<Coverage> {
    let segments = archiver.ledger.segments(series.id).await?;
    let mut source = HostStream::new(archiver, series);
    compare_archived(archiver, series, &segments, &mut source).await?;

    match source.next().await? {
        Some(more) => Err(Error::conflict(
            "archive.behind",
            format!("record {} of {} is not archived yet", more.seq, series.session),
        )),
        None if source.torn_bytes > 0 => Err(Error::transient(
            "archive.torn_tail",
            format!("the transcript of {} ends in an unfinished record", series.session),
        )),
        None => Ok(Coverage { series: series.clone(), segments, source: source.identity()? }),
    }
}

/// Compares only what is archived: the host may have more. Errors as for [`compare`].
pub(super) async fn compare_prefix(archiver: &Archiver, series: &Series) -> Result<()> {
    let segments = archiver.ledger.segments(series.id).await?;
    compare_archived(archiver, series, &segments, &mut HostStream::new(archiver, series)).await
}

async fn compare_archived(
    archiver: &Archiver,
    series: &Series,
    segments: &[Segment],
    source: &mut HostStream<'_>,
) -> Result<()> {
    for segment in segments {
        archiver.store.verify(segment).await?;
        for archived in archiver.store.read(segment).await? {
            let there = source.next().await?;
            if there.as_ref() != Some(&archived) {
                let found = there.map_or("nothing".to_owned(), |r| format!("record {}", r.seq));
                let message =
                    format!("the archive of {} and its host differ at record {}", series.session, archived.seq);
                return Err(Error::data(DIFFERS, message).cause(format!("the host has {found} there")));
            }
        }
    }
    Ok(())
}

/// The host's records one by one, read in bounded pages.
struct HostStream<'a> {
    archiver: &'a Archiver,
    session: SessionRef,
    next_seq: i64,
    page: VecDeque<Record>,
    more: bool,
    torn_bytes: u64,
    source: Option<SourceIdentity>,
}

impl<'a> HostStream<'a> {
    fn new(archiver: &'a Archiver, series: &Series) -> Self {
        let session = SessionRef { key: series.session.clone(), session_id: series.session_id.clone() };
        Self { archiver, session, next_seq: 0, page: VecDeque::new(), more: true, torn_bytes: 0, source: None }
    }

    async fn next(&mut self) -> Result<Option<Record>> {
        if self.page.is_empty() && self.more {
            let limit = self.archiver.settings.segment_bytes as usize;
            let page = self.archiver.host.records(&self.session, self.next_seq, limit).await?;
            if self.source.as_ref().is_some_and(|before| *before != page.source) {
                let message = format!("the transcript of {} was replaced while it was compared", self.session.key);
                return Err(Error::transient("archive.source_moved", message));
            }
            (self.more, self.torn_bytes) = (page.more, page.torn_bytes);
            self.source = Some(page.source);
            self.page = page.records.into();
        }
        let record = self.page.pop_front();
        if let Some(record) = &record {
            self.next_seq = record.seq + 1;
        }
        Ok(record)
    }

    fn identity(&mut self) -> Result<SourceIdentity> {
        self.source
            .take()
            .ok_or_else(|| Error::data("archive.empty", format!("{} has no transcript", self.session.key)))
    }
}
