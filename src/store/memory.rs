//! Webhooks, pages, spending, and the check of health.

use std::time::Duration;

use super::database::{Database, Failure, query};
use super::leases::day;
use super::row::{key_of, later};
use super::statements as sql;
use super::{Delivery, Page, Spent, StoreError};
use crate::task::RepositoryName;

/// How long a delivery's id is remembered after it was worked.
const DELIVERY_LIFE: Duration = Duration::from_secs(31 * 86_400);

impl Database {
    pub(super) async fn receive(&self, delivery: &Delivery) -> Result<bool, Failure> {
        let mut session = self.begin().await?;
        // Who reads the inbox goes by the numbers, so that a smaller one must not come after a larger one.
        session.alone("deliveries").await?;
        let now = self.now(&mut session).await?;
        let taken = query(sql::RECEIVE)
            .bind(delivery.id.as_str())
            .bind(delivery.event.as_str())
            .bind(delivery.payload.as_slice())
            .bind(now)
            .execute(&mut session)
            .await?;
        session.tell().await?;
        session.commit().await?;
        Ok(taken == 1)
    }

    pub(super) async fn inbox(&self, after: i64, limit: u32) -> Result<Vec<(i64, Delivery)>, Failure> {
        let mut session = self.read().await?;
        let rows = query(sql::INBOX).bind(after).bind(i64::from(limit)).fetch_all(&mut session).await?;
        let mut deliveries = Vec::new();
        for row in rows {
            let delivery = Delivery { id: row.get("id")?, event: row.get("event")?, payload: row.get("payload")? };
            deliveries.push((row.get("number")?, delivery));
        }
        Ok(deliveries)
    }

    pub(super) async fn delivered(&self, id: &str) -> Result<(), Failure> {
        let mut session = self.begin().await?;
        let now = self.now(&mut session).await?;
        query(sql::DELIVERED).bind(id).bind(now).execute(&mut session).await?;
        let forgotten = now.saturating_sub(later(0, DELIVERY_LIFE));
        query(sql::FORGET_DELIVERIES).bind(forgotten).execute(&mut session).await?;
        session.commit().await
    }

    pub(super) async fn page(&self, url: &str) -> Result<Option<Page>, Failure> {
        let mut session = self.read().await?;
        let Some(row) = query(sql::PAGE).bind(url).fetch_optional(&mut session).await? else { return Ok(None) };
        Ok(Some(Page { etag: row.get("etag")?, memo: row.get("memo")? }))
    }

    pub(super) async fn set_page(&self, url: &str, page: &Page) -> Result<(), Failure> {
        let mut session = self.begin().await?;
        let now = self.now(&mut session).await?;
        let query = query(sql::SET_PAGE).bind(url).bind(page.etag.as_str()).bind(page.memo.as_str()).bind(now);
        query.execute(&mut session).await?;
        session.commit().await
    }

    pub(super) async fn spent_today(&self, target: Option<&RepositoryName>) -> Result<Spent, Failure> {
        let mut session = self.read().await?;
        let now = self.now(&mut session).await?;
        let row = query(sql::SPENT).bind(day(now)).bind(target.map(key_of)).fetch_one(&mut session).await?;
        let (tokens, micros, unpriced): (i64, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        Ok(Spent { tokens: tokens.unsigned_abs(), micros: micros.unsigned_abs(), unpriced: unpriced > 0 })
    }

    pub(super) async fn check(&self) -> Result<(), Failure> {
        let mut session = self.begin().await?;
        let now = self.now(&mut session).await?;
        query(sql::CHECK_WRITE).bind(now).execute(&mut session).await?;
        session.commit().await?;
        let mut session = self.read().await?;
        match query(sql::CHECK_READ).fetch_optional(&mut session).await? {
            Some(_) => Ok(()),
            None => Err(StoreError::Unusable {
                reason: "what was written cannot be read".into(),
                remedy: "Put a backup in its place",
            }
            .into()),
        }
    }
}
