//! The hash chain of the audit, and two hundred ways to tamper with it.

use super::*;

#[test]
fn the_audit_is_gap_free_and_refuses_to_be_changed() {
    let folder = tempfile::tempdir().expect("a scratch folder");
    audited(folder.path(), 30);
    let raw = Connection::open(folder.path().join("moon.db")).expect("the file opens");
    for attack in
        ["UPDATE audit SET record = '{}' WHERE seq = 3", "DELETE FROM audit WHERE seq = 30", "DELETE FROM audit"]
    {
        let refused = raw.execute(attack, []).expect_err(attack).to_string();
        assert!(refused.contains("append-only"), "{refused}");
    }
    let (ledger, _) = on_disk(folder.path());
    let rows = wait(ledger.audit_rows(0, 1000)).expect("rows");
    assert_eq!(rows.iter().map(|r| r.seq).collect::<Vec<_>>(), (1..=30).collect::<Vec<i64>>());
    assert_eq!(wait(ledger.verify_audit()).expect("read"), Ok(30));
}

#[test]
fn two_hundred_tamperings_of_the_audit_are_each_found_where_they_are() {
    let folder = tempfile::tempdir().expect("a scratch folder");
    let rows = 40;
    audited(folder.path(), rows);
    let (ledger, _) = on_disk(folder.path());
    let mut raw = Connection::open(folder.path().join("moon.db")).expect("the file opens");
    raw.execute_batch("DROP TRIGGER audit_is_append_only_update; DROP TRIGGER audit_is_append_only_delete;")
        .expect("dropped");
    let mut luck = 0x2545_f491_4f6c_dd1d_u64;
    let mut dice = move |below: u64| {
        luck ^= luck << 13;
        luck ^= luck >> 7;
        luck ^= luck << 17;
        luck % below
    };
    for round in 0..200 {
        let whole = raw
            .prepare("SELECT seq, record, prev_sha256, sha256 FROM audit ORDER BY seq")
            .and_then(|mut s| {
                s.query_map([], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?)))?
                    .collect::<rusqlite::Result<Vec<(i64, String, String, String)>>>()
            })
            .expect("rows");
        let seq = 1 + dice(rows as u64) as i64;
        let (what, first_bad) = tamper(&mut raw, round % 7, seq, &mut dice);
        let verdict = wait(ledger.verify_audit()).expect("read");
        let found = verdict.expect_err(&format!("round {round}: {what} at {seq} was not found"));
        assert!(found <= first_bad, "round {round}: {what} at {seq} was found only at {found}");
        let tx = raw.transaction().expect("a transaction");
        tx.execute("DELETE FROM audit", []).expect("emptied");
        for (seq, record, prev, sha) in whole {
            let sql = "INSERT INTO audit (seq, record, prev_sha256, sha256) VALUES (?1, ?2, ?3, ?4)";
            tx.execute(sql, (seq, record, prev, sha)).expect("put back");
        }
        tx.commit().expect("committed");
        assert_eq!(wait(ledger.verify_audit()).expect("read"), Ok(rows as i64), "put back after round {round}");
    }
}

/// Does one kind of harm; says which and the first row it touched.
fn tamper(raw: &mut Connection, kind: usize, seq: i64, dice: &mut impl FnMut(u64) -> u64) -> (&'static str, i64) {
    let run = |sql: &str| assert!(raw.execute(sql, [seq]).expect(sql) > 0, "{sql} did nothing");
    match kind {
        0 => {
            let column = ["record", "prev_sha256", "sha256"][dice(3) as usize];
            let sql = format!("SELECT {column} FROM audit WHERE seq = ?1");
            let mut text: Vec<u8> = raw.query_row(&sql, [seq], |r| r.get::<_, String>(0)).expect("a row").into_bytes();
            let at = dice(text.len() as u64) as usize;
            text[at] = if text[at] == b'7' { b'8' } else { b'7' };
            let text = String::from_utf8(text).expect("ASCII stays ASCII");
            raw.execute(&format!("UPDATE audit SET {column} = ?2 WHERE seq = ?1"), (seq, text)).expect("changed");
            ("a flipped character", seq)
        }
        1 => {
            run("DELETE FROM audit WHERE seq = ?1");
            ("a deleted row", seq)
        }
        2 => {
            run("UPDATE audit SET seq = -1 WHERE seq = ?1");
            raw.execute("UPDATE audit SET seq = ?1 WHERE seq = ?1 + 1", [seq]).expect("moved");
            raw.execute("UPDATE audit SET seq = ?1 + 1 WHERE seq = -1", [seq]).expect("moved");
            ("two rows swapped", seq)
        }
        3 => {
            run("DELETE FROM audit WHERE seq = ?1");
            raw.execute("UPDATE audit SET seq = seq - 1 WHERE seq > ?1", [seq]).expect("closed up");
            ("a row cut out and the gap closed", seq)
        }
        4 => {
            // The record is replaced and its own hash made right again: only the next link tells.
            let prev: String =
                raw.query_row("SELECT prev_sha256 FROM audit WHERE seq = ?1", [seq], |r| r.get(0)).expect("a row");
            let record: String =
                raw.query_row("SELECT record FROM audit WHERE seq = ?1", [seq], |r| r.get(0)).expect("a row");
            let forged = record.replace("\"test\"", "\"else\"").replace("\"moon\"", "\"none\"");
            assert_ne!(forged, record);
            let sha = Sha256::of(format!("{prev}\n{forged}").as_bytes());
            raw.execute("UPDATE audit SET record = ?2, sha256 = ?3 WHERE seq = ?1", (seq, forged, sha.as_str()))
                .expect("forged");
            ("a forged row with a right hash", seq + 1)
        }
        5 => {
            run("UPDATE audit SET seq = seq + 1000 WHERE seq >= ?1");
            ("rows moved away", seq)
        }
        _ => {
            run("DELETE FROM audit WHERE seq >= ?1");
            ("the end cut off", seq)
        }
    }
}
