//! Archive, index and memory of the simulated world, with the manners of the real ones.
//!
//! A manifest lies at a place made from session, id, epoch and ordinal, and another segment written there takes its place, as in
//! the real archive; the index may be wiped, lie or call itself corrupt; a day's memory knows only its own day.

use crate::world::World;
use async_trait::async_trait;
use chrono::NaiveDate;
use moon_actors::domain::{ContinuityMap, Manifest, Record, Segment, Series, SessionKey, Sha256};
use moon_actors::port::{
    ArchiveStore, Hits, IndexDoc, IndexStatus, MapFile, MemoryBlock, MemoryStore, Put, Query, SearchIndex,
    SegmentDraft, SegmentName, Stored,
};
use moon_actors::{Error, Result};
use std::collections::{BTreeMap, HashMap, HashSet};

#[derive(Default)]
pub(crate) struct Archive {
    /// Bytes by their hash; where they stand in a transcript only a manifest knows.
    pub(crate) objects: HashMap<String, Vec<Vec<u8>>>,
    pub(crate) manifests: BTreeMap<String, Manifest>,
    /// Objects whose bytes have rotted.
    pub(crate) damaged: HashSet<String>,
    pub(crate) projections: HashMap<String, String>,
}

#[derive(Default)]
pub(crate) struct Index {
    pub(crate) docs: HashSet<SegmentName>,
    pub(crate) corrupt: bool,
    /// When it was last emptied, by whomever.
    pub(crate) shaken_at: Option<i64>,
}

#[derive(Default)]
pub(crate) struct Memory {
    /// Keys as they were appended, day by day.
    pub(crate) blocks: BTreeMap<NaiveDate, Vec<Sha256>>,
    pub(crate) maps: HashMap<String, ContinuityMap>,
}

impl Archive {
    /// Every undamaged archived version of every record of a transcript, with the index key of its segment.
    pub(crate) fn holds(&self, key: &SessionKey, id: &str) -> HashMap<i64, Vec<(&[u8], &Manifest)>> {
        let mut held: HashMap<i64, Vec<(&[u8], &Manifest)>> = HashMap::new();
        for manifest in self.manifests.values().filter(|m| m.session_key == *key && m.session_id == id) {
            let path = object_path(&manifest.sha256);
            if self.damaged.contains(&path) {
                continue;
            }
            for (bytes, seq) in self.objects.get(&path).into_iter().flatten().zip(&manifest.seq_ranges) {
                held.entry(seq[0]).or_default().push((bytes, manifest));
            }
        }
        held
    }
}

fn object_path(sha256: &Sha256) -> String {
    format!("objects/{sha256}")
}

fn manifest_path(m: &Manifest) -> String {
    format!("sessions/{}/{}-{}-{:06}", m.session_key, m.session_id, m.epoch, m.ordinal)
}

fn hash_of(manifest: &Manifest) -> Sha256 {
    Sha256::of(&serde_json::to_vec(manifest).expect("a manifest is plain data"))
}

fn manifest_of(draft: &SegmentDraft) -> Manifest {
    let mut bytes = Vec::new();
    for record in &draft.records {
        bytes.extend_from_slice(&record.bytes);
        bytes.push(b'\n');
    }
    let (first, last) = (&draft.records[0], &draft.records[draft.records.len() - 1]);
    Manifest {
        version: 1,
        session_key: draft.session_key.clone(),
        session_id: draft.session_id.clone(),
        epoch: draft.epoch,
        ordinal: draft.ordinal,
        sha256: Sha256::of(&bytes),
        previous: draft.previous.clone(),
        bytes: bytes.len() as u64,
        records: draft.records.len() as u64,
        first_seq: first.seq,
        last_seq: last.seq,
        last_record: Sha256::of(&last.bytes),
        seq_ranges: draft.records.iter().map(|r| [r.seq, r.seq]).collect(),
        multiline: vec![],
        source: draft.source.clone(),
        archived_at: draft.archived_at,
        writer: "sim".into(),
    }
}

fn corrupt(segment: &Segment, why: &str) -> Error {
    Error::data("archive.corrupt", format!("segment {} of {}: {why}", segment.id, segment.manifest.session_key))
}

#[async_trait]
impl ArchiveStore for World {
    async fn put(&self, draft: SegmentDraft) -> Result<Stored> {
        let mut manifest = manifest_of(&draft);
        // Writing and syncing takes a while, in which others write as well.
        let slowest = if self.dice.per_mille("archive.slow", 100) { 5_000 } else { 30 };
        tokio::time::sleep(std::time::Duration::from_millis(self.dice.between("archive.slow", 0, slowest))).await;
        self.act("archive.put", move |state| {
            let (object, path) = (object_path(&manifest.sha256), manifest_path(&manifest));
            state.archive.damaged.remove(&object);
            state.archive.objects.insert(object.clone(), draft.records.into_iter().map(|r| r.bytes).collect());
            if let Some(there) = state.archive.manifests.get(&path) {
                let same =
                    Manifest { archived_at: manifest.archived_at, source: manifest.source.clone(), ..there.clone() }
                        == manifest;
                if same {
                    manifest = there.clone();
                }
            }
            let stored = Stored {
                manifest_sha256: hash_of(&manifest),
                path: object,
                manifest_path: path.clone(),
                manifest: manifest.clone(),
            };
            state.archive.manifests.insert(path, manifest);
            Ok(stored)
        })
        .await
    }
    async fn read(&self, segment: &Segment) -> Result<Vec<Record>> {
        self.act("archive.read", |state| {
            let there = !state.archive.damaged.contains(&segment.path);
            let bytes = state.archive.objects.get(&segment.path).filter(|_| there);
            let all = bytes.ok_or_else(|| corrupt(segment, "its object is damaged"))?;
            let seqs = segment.manifest.seq_ranges.iter().map(|range| range[0]);
            Ok(seqs.zip(all.clone()).map(|(seq, bytes)| Record { seq, bytes }).collect())
        })
        .await
    }
    async fn verify(&self, segment: &Segment) -> Result<()> {
        self.act("archive.verify", |state| {
            if state.archive.damaged.contains(&segment.path) || !state.archive.objects.contains_key(&segment.path) {
                return Err(corrupt(segment, "its object is damaged"));
            }
            match state.archive.manifests.get(&segment.manifest_path) {
                Some(found) if hash_of(found) == segment.manifest_sha256 => Ok(()),
                _ => Err(corrupt(segment, "its manifest differs from the ledger")),
            }
        })
        .await
    }
    async fn project(&self, series: &Series, keep_bytes: i64, text: &str) -> Result<i64> {
        let path = self.projection_path(series);
        self.act("archive.project", |state| {
            let there = state.archive.projections.entry(path).or_default();
            let keep = keep_bytes as usize;
            if there.len() < keep {
                return Err(Error::conflict("archive.projection_lost", "the projection is shorter than it was left"));
            }
            there.truncate(keep);
            there.push_str(text);
            Ok(there.len() as i64)
        })
        .await
    }
    async fn is_projected(&self, series: &Series) -> Result<bool> {
        let path = self.projection_path(series);
        self.act("archive.is_projected", |state| {
            let length = state.archive.projections.get(&path).map_or(0, String::len) as i64;
            Ok(series.projection_bytes > 0 && length >= series.projection_bytes)
        })
        .await
    }
    fn projection_path(&self, series: &Series) -> String {
        format!("mlib/{}/{}-{}.md", series.session, series.session_id, series.epoch)
    }
    async fn manifests(&self) -> Result<Vec<(String, Manifest)>> {
        Ok(self.state().archive.manifests.clone().into_iter().collect())
    }
    async fn sweep(&self) -> Result<u64> {
        Ok(0)
    }
}

fn usable(index: &Index) -> Result<()> {
    if index.corrupt { Err(Error::data("index.corrupt", "the index file is malformed")) } else { Ok(()) }
}

#[async_trait]
impl SearchIndex for World {
    fn name(&self) -> &'static str {
        "sim"
    }
    async fn put(&self, doc: IndexDoc) -> Result<Put> {
        let forgets = self.state().weather.faults > 0 && self.dice.per_mille("index.forgets", 5);
        self.act("index.put", |state| {
            usable(&state.index)?;
            // An index that says yes and keeps nothing is what the lookup is for.
            let new = !forgets && state.index.docs.insert(doc.name.clone());
            Ok(if new { Put::New } else { Put::Unchanged })
        })
        .await
    }
    async fn contains(&self, name: &SegmentName) -> Result<bool> {
        self.act("index.contains", |state| usable(&state.index).map(|()| state.index.docs.contains(name))).await
    }
    async fn search(&self, _: &Query) -> Result<Hits> {
        Ok(Hits::default())
    }
    async fn status(&self) -> Result<IndexStatus> {
        let segments = self.state().index.docs.len() as u64;
        Ok(IndexStatus { segments, ..IndexStatus::default() })
    }
    async fn missing(&self, expected: &[SegmentName]) -> Result<Vec<SegmentName>> {
        self.act("index.missing", |state| {
            usable(&state.index)?;
            Ok(expected.iter().filter(|name| !state.index.docs.contains(*name)).cloned().collect())
        })
        .await
    }
    async fn clear(&self) -> Result<()> {
        let now = self.time.real_ms();
        self.act("index.clear", |state| {
            state.index = Index { shaken_at: Some(now), ..Index::default() };
            Ok(())
        })
        .await
    }
}

#[async_trait]
impl MemoryStore for World {
    async fn append(&self, block: &MemoryBlock) -> Result<String> {
        self.act("memory.append", |state| {
            let day = state.memory.blocks.entry(block.day).or_default();
            if !day.contains(&block.key) {
                day.push(block.key.clone());
            }
            Ok(format!("memory/{}.md", block.day))
        })
        .await
    }
    async fn write_map(&self, cycle: &str, map: &ContinuityMap) -> Result<MapFile> {
        let path = format!("continuity/continuity-{}-{cycle}.json", map.generated_at_epoch_secs);
        let sha256 = Sha256::of(&serde_json::to_vec(map).expect("a map is plain data"));
        self.act("memory.write_map", |state| {
            state.memory.maps.insert(path.clone(), map.clone());
            Ok(MapFile { path, sha256 })
        })
        .await
    }
    async fn read_map(&self, path: &str) -> Result<ContinuityMap> {
        self.state().memory.maps.get(path).cloned().ok_or_else(|| Error::data("memory.map_unreadable", "no such map"))
    }
}
