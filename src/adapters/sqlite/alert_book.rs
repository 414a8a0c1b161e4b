//! The port of alerts over the tables of `alerts.rs`, `silences.rs` and `outbox.rs`: routes only, as its neighbour for the rest.

use super::{SqliteLedger, alerts, outbox, silences};
use async_trait::async_trait;
use moon_actors::Result;
use moon_actors::port::{
    AlertBook, AlertRow, Book, DeliveryRow, Digest, Digests, Failure, NewSilence, Parcel, PendingAlert, RouteRow,
    Settlement, Silence,
};
use std::time::Duration;

#[async_trait]
impl AlertBook for SqliteLedger {
    async fn tend_alerts(&self, escalate_after: Duration) -> Result<u64> {
        self.write("look after the alerts", move |tx, stamp| {
            silences::tend(tx, stamp)?;
            alerts::tend(tx, stamp, escalate_after)
        })
        .await
    }
    async fn alert_rows(&self, firing_only: bool, before: Option<i64>, limit: usize) -> Result<Vec<AlertRow>> {
        self.read("list the alerts", move |db, stamp| alerts::rows(db, stamp, firing_only, before, limit)).await
    }
    async fn alert_row(&self, id: i64) -> Result<Option<AlertRow>> {
        self.read("read an alert", move |db, stamp| alerts::one(db, stamp, id)).await
    }
    async fn pending_alerts(&self) -> Result<Vec<PendingAlert>> {
        self.read("list the pending alerts", |db, _| alerts::pending(db)).await
    }
    async fn alert_deliveries(&self, id: i64) -> Result<Vec<DeliveryRow>> {
        self.read("list the deliveries of an alert", move |db, stamp| alerts::deliveries(db, stamp, id)).await
    }
    async fn acknowledge(&self, id: i64, by: &str, note: Option<&str>) -> Result<Option<AlertRow>> {
        let (by, note) = (by.to_owned(), note.map(str::to_owned));
        self.write("acknowledge an alert", move |tx, stamp| alerts::acknowledge(tx, stamp, id, &by, note.as_deref()))
            .await
    }
    async fn silence(&self, silence: &NewSilence) -> Result<Silence> {
        let silence = silence.clone();
        self.write("record a silence", move |tx, stamp| silences::create(tx, stamp, &silence)).await
    }
    async fn unsilence(&self, id: i64, by: &str) -> Result<Option<Silence>> {
        let by = by.to_owned();
        self.write("end a silence", move |tx, stamp| silences::end(tx, stamp, id, &by)).await
    }
    async fn silences(&self, all: bool) -> Result<Vec<Silence>> {
        self.read("list the silences", move |db, stamp| silences::list(db, stamp, all)).await
    }

    async fn open_routes(&self, names: &[String]) -> Result<()> {
        let names = names.to_vec();
        self.write("record the routes of alerts", move |tx, stamp| outbox::open_routes(tx, stamp, &names)).await
    }
    async fn routes(&self) -> Result<Vec<RouteRow>> {
        self.read("list the routes of alerts", outbox::routes).await
    }
    async fn newest_notice(&self) -> Result<i64> {
        self.read("look for new notices", |db, _| {
            db.prepare_cached("SELECT coalesce(max(id), 0) FROM notices")?.query_row([], |r| r.get(0))
        })
        .await
    }
    async fn book(&self, route: &str, after: i64, limit: usize, horizon: Duration) -> Result<Book> {
        let route = route.to_owned();
        self.write("look what a route is owed", move |tx, stamp| {
            outbox::book(tx, stamp, &route, (after, limit), horizon)
        })
        .await
    }
    async fn settle(&self, route: &str, settlement: &Settlement) -> Result<()> {
        let (route, settlement, id) = (route.to_owned(), settlement.clone(), self.ids.next());
        self.write("settle what a route is owed", move |tx, stamp| outbox::settle(tx, stamp, &route, &settlement, &id))
            .await
    }
    async fn digests(&self, route: &str) -> Result<Digests> {
        let route = route.to_owned();
        self.read("look at the digests of a route", move |db, stamp| outbox::digests(db, stamp, &route)).await
    }
    async fn close_digest(&self, route: &str) -> Result<Option<Digest>> {
        let route = route.to_owned();
        self.write("close a digest", move |tx, _| outbox::close_digest(tx, &route)).await
    }
    async fn is_owed(&self, route: &str, parcel: &Parcel) -> Result<bool> {
        let (route, parcel) = (route.to_owned(), parcel.clone());
        self.read("look whether a route is owed a notice", move |db, _| outbox::is_owed(db, &route, &parcel)).await
    }
    async fn told(&self, route: &str, parcel: &Parcel) -> Result<()> {
        let (route, parcel) = (route.to_owned(), parcel.clone());
        self.write("record a delivery", move |tx, stamp| outbox::told(tx, stamp, &route, &parcel)).await
    }
    async fn not_told(&self, route: &str, parcel: &Parcel, failure: &Failure) -> Result<()> {
        let (route, parcel, failure) = (route.to_owned(), parcel.clone(), failure.clone());
        self.write("record a failed delivery", move |tx, stamp| outbox::not_told(tx, stamp, &route, &parcel, &failure))
            .await
    }
}
