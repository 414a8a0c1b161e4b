//! Series and segments: what is archived, how far, and what of it is searchable.

use super::{Stamp, audit, from_json, hash_column, instant, millis, to_json};
use moon_actors::contract::{ArchiveRecord, count};
use moon_actors::domain::{Job, Segment, Series, SessionKey, SessionRef, Sha256};
use moon_actors::port::{AuditEntry, Stored};
use rusqlite::{Connection, OptionalExtension, Row, params};

const SERIES: &str =
    "SELECT id, session, session_id, epoch, last_seq, last_record, records, bytes, projection_bytes FROM series";
const SEGMENT: &str =
    "SELECT g.id, g.series, g.manifest, g.manifest_sha256, g.path, g.manifest_path, g.indexed_at FROM segments g";

fn series_row(r: &Row) -> rusqlite::Result<Series> {
    Ok(Series {
        id: r.get(0)?,
        session: SessionKey(r.get(1)?),
        session_id: r.get(2)?,
        epoch: r.get(3)?,
        last_seq: r.get(4)?,
        last_record: r.get::<_, Option<String>>(5)?.as_deref().map(hash_column).transpose()?,
        records: r.get(6)?,
        bytes: r.get(7)?,
        projection_bytes: r.get(8)?,
    })
}

fn segment_row(r: &Row) -> rusqlite::Result<Segment> {
    Ok(Segment {
        id: r.get(0)?,
        series_id: r.get(1)?,
        manifest: from_json(&r.get::<_, String>(2)?)?,
        manifest_sha256: hash_column(&r.get::<_, String>(3)?)?,
        path: r.get(4)?,
        manifest_path: r.get(5)?,
        indexed_at: r.get::<_, Option<i64>>(6)?.map(instant),
    })
}

fn by_id(db: &Connection, id: i64) -> rusqlite::Result<Series> {
    db.prepare_cached(&format!("{SERIES} WHERE id = ?1"))?.query_row([id], series_row)
}

pub(super) fn series(db: &Connection, session: &SessionRef) -> rusqlite::Result<Series> {
    let newest = db
        .prepare_cached(&format!("{SERIES} WHERE session = ?1 AND session_id = ?2 ORDER BY epoch DESC LIMIT 1"))?
        .query_row((session.key.as_str(), &session.session_id), series_row)
        .optional()?;
    match newest {
        Some(series) => Ok(series),
        None => insert(db, &session.key, &session.session_id, 0),
    }
}

fn insert(db: &Connection, key: &SessionKey, session_id: &str, epoch: i64) -> rusqlite::Result<Series> {
    db.prepare_cached("INSERT INTO series (session, session_id, epoch) VALUES (?1, ?2, ?3)")?.execute((
        key.as_str(),
        session_id,
        epoch,
    ))?;
    by_id(db, db.last_insert_rowid())
}

pub(super) fn supersede(db: &Connection, stamp: &Stamp, old: &Series, why: &str) -> rusqlite::Result<Series> {
    let newest = series(db, &SessionRef { key: old.session.clone(), session_id: old.session_id.clone() })?;
    if newest.epoch > old.epoch {
        return Ok(newest);
    }
    db.execute("UPDATE series SET superseded = ?2 WHERE id = ?1", (old.id, why))?;
    let message = format!("the host changed what was archived ({why}); both versions are kept");
    let entry = AuditEntry::new("archive", "source_changed", "info", message)
        .session(&old.session)
        .detail(serde_json::json!({ "old_epoch": old.epoch, "archived_records": old.records }));
    audit::append(db, stamp, &entry)?;
    insert(db, &old.session, &old.session_id, old.epoch + 1)
}

pub(super) fn all_series(db: &Connection, key: Option<&SessionKey>) -> rusqlite::Result<Vec<Series>> {
    db.prepare_cached(&format!("{SERIES} WHERE ?1 IS NULL OR session = ?1 ORDER BY id"))?
        .query_map([key.map(SessionKey::as_str)], series_row)?
        .collect()
}

pub(super) fn add_segment(
    db: &Connection,
    stamp: &Stamp,
    series: &Series,
    stored: &Stored,
    projection_bytes: i64,
    job: &Job,
) -> rusqlite::Result<Series> {
    let m = &stored.manifest;
    // The last condition: what is archived already is never archived again, whatever a writer believed when it read.
    let added = db
        .prepare_cached(
            "INSERT OR IGNORE INTO segments (series, ordinal, sha256, manifest, manifest_sha256, path, manifest_path, archived_at)
             SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8 WHERE ?9 > (SELECT last_seq FROM series WHERE id = ?1)",
        )?
        .execute(params![
            series.id,
            m.ordinal,
            m.sha256.as_str(),
            to_json(m),
            stored.manifest_sha256.as_str(),
            stored.path,
            stored.manifest_path,
            millis(stamp.now),
            m.first_seq
        ])?;
    if added == 0 {
        return by_id(db, series.id);
    }
    db.prepare_cached(
        "UPDATE series SET last_seq = ?2, last_record = ?3, records = records + ?4, bytes = bytes + ?5,
                projection_bytes = ?6 WHERE id = ?1",
    )?
    .execute(params![
        series.id,
        m.last_seq,
        m.last_record.as_str(),
        m.records as i64,
        m.bytes as i64,
        projection_bytes
    ])?;
    let message = format!("archived and verified {} ({})", count(m.records, "record"), count(m.bytes, "byte"));
    let mut entry = AuditEntry::new("archive", "archived", "ok", message).session(&series.session).detail(
        serde_json::json!({ "sha256": m.sha256, "first_seq": m.first_seq, "last_seq": m.last_seq, "path": stored.path }),
    );
    entry.trace = Some(job.trace.clone());
    entry.cycle = Some(job.cycle.clone());
    entry.stage = Some(job.stage);
    audit::append(db, stamp, &entry)?;
    by_id(db, series.id)
}

pub(super) fn segments(db: &Connection, series: i64) -> rusqlite::Result<Vec<Segment>> {
    db.prepare_cached(&format!("{SEGMENT} WHERE g.series = ?1 ORDER BY g.ordinal"))?
        .query_map([series], segment_row)?
        .collect()
}

pub(super) fn tail(db: &Connection, series: i64) -> rusqlite::Result<Option<Segment>> {
    db.prepare_cached(&format!("{SEGMENT} WHERE g.series = ?1 ORDER BY g.ordinal DESC LIMIT 1"))?
        .query_row([series], segment_row)
        .optional()
}

pub(super) fn all_segments(db: &Connection) -> rusqlite::Result<Vec<Segment>> {
    db.prepare_cached(&format!("{SEGMENT} ORDER BY g.id"))?.query_map([], segment_row)?.collect()
}

pub(super) fn by_hash(db: &Connection, after: &str, limit: usize) -> rusqlite::Result<Vec<Segment>> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    db.prepare_cached(&format!("{SEGMENT} WHERE g.sha256 > ?1 ORDER BY g.sha256, g.id LIMIT ?2"))?
        .query_map((after, limit), segment_row)?
        .collect()
}

pub(super) fn rows(db: &Connection, after: i64, limit: usize) -> rusqlite::Result<Vec<(i64, ArchiveRecord)>> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    db.prepare_cached(&format!("{SEGMENT} WHERE g.id > ?1 ORDER BY g.id LIMIT ?2"))?
        .query_map((after, limit), |r| segment_row(r).map(|segment| (segment.id, ArchiveRecord::from(&segment))))?
        .collect()
}

pub(super) fn unindexed(
    db: &Connection,
    key: Option<&SessionKey>,
    after: i64,
    limit: usize,
) -> rusqlite::Result<Vec<Segment>> {
    db.prepare_cached(&format!(
        "{SEGMENT} JOIN series s ON s.id = g.series
         WHERE g.indexed_at IS NULL AND g.id > ?3 AND (?1 IS NULL OR s.session = ?1) ORDER BY g.id LIMIT ?2"
    ))?
    .query_map((key.map(SessionKey::as_str), limit as i64, after), segment_row)?
    .collect()
}

pub(super) fn find(db: &Connection, sha256: &Sha256) -> rusqlite::Result<Option<(Segment, Series)>> {
    let segment = db
        .prepare_cached(&format!("{SEGMENT} WHERE g.sha256 = ?1 ORDER BY g.id LIMIT 1"))?
        .query_row([sha256.as_str()], segment_row)
        .optional()?;
    segment.map(|s| by_id(db, s.series_id).map(|series| (s, series))).transpose()
}

pub(super) fn mark_indexed(db: &Connection, stamp: &Stamp, segments: &[i64]) -> rusqlite::Result<()> {
    let mut statement = db.prepare_cached("UPDATE segments SET indexed_at = ?2 WHERE id = ?1")?;
    segments.iter().try_for_each(|id| statement.execute((id, millis(stamp.now))).map(drop))
}
