//! Webhooks, pages, spending, and the check of health.

use std::time::Duration;

use super::leases::day;
use super::row::key_of;
use super::{Sqlite, later, unusable};
use crate::store::statements as sql;
use crate::store::{Delivery, Page, Spent, StoreError};
use crate::task::RepositoryName;

/// How long a delivery's id is remembered after it was worked.
const DELIVERY_LIFE: Duration = Duration::from_secs(31 * 86_400);

impl Sqlite {
    pub(in crate::store) async fn receive(&self, delivery: &Delivery) -> Result<bool, StoreError> {
        let taken = sqlx::query(sql::RECEIVE)
            .bind(&delivery.id)
            .bind(&delivery.event)
            .bind(&delivery.payload)
            .bind(self.now())
            .execute(&self.writer)
            .await?;
        Ok(taken.rows_affected() == 1)
    }

    pub(in crate::store) async fn inbox(&self, after: i64, limit: u32) -> Result<Vec<(i64, Delivery)>, StoreError> {
        let rows: Vec<(i64, String, String, Vec<u8>)> =
            sqlx::query_as(sql::INBOX).bind(after).bind(i64::from(limit)).fetch_all(&self.readers).await?;
        Ok(rows.into_iter().map(|(number, id, event, payload)| (number, Delivery { id, event, payload })).collect())
    }

    pub(in crate::store) async fn delivered(&self, id: &str) -> Result<(), StoreError> {
        let now = self.now();
        let mut transaction = self.begin().await?;
        sqlx::query(sql::DELIVERED).bind(id).bind(now).execute(&mut *transaction).await?;
        let forgotten = now.saturating_sub(later(0, DELIVERY_LIFE));
        sqlx::query(sql::FORGET_DELIVERIES).bind(forgotten).execute(&mut *transaction).await?;
        Ok(transaction.commit().await?)
    }

    pub(in crate::store) async fn page(&self, url: &str) -> Result<Option<Page>, StoreError> {
        let page: Option<(String, String)> = sqlx::query_as(sql::PAGE).bind(url).fetch_optional(&self.readers).await?;
        Ok(page.map(|(etag, memo)| Page { etag, memo }))
    }

    pub(in crate::store) async fn set_page(&self, url: &str, page: &Page) -> Result<(), StoreError> {
        sqlx::query(sql::SET_PAGE)
            .bind(url)
            .bind(&page.etag)
            .bind(&page.memo)
            .bind(self.now())
            .execute(&self.writer)
            .await?;
        Ok(())
    }

    pub(in crate::store) async fn spent_today(&self, target: Option<&RepositoryName>) -> Result<Spent, StoreError> {
        let (tokens, micros, unpriced): (i64, i64, i64) =
            sqlx::query_as(sql::SPENT).bind(day(self.now())).bind(target.map(key_of)).fetch_one(&self.readers).await?;
        Ok(Spent { tokens: tokens.unsigned_abs(), micros: micros.unsigned_abs(), unpriced: unpriced > 0 })
    }

    pub(in crate::store) async fn check(&self) -> Result<(), StoreError> {
        let now = self.now();
        sqlx::query(sql::CHECK_WRITE).bind(now).execute(&self.writer).await?;
        let read: Option<i64> = sqlx::query_scalar(sql::CHECK_READ).fetch_optional(&self.readers).await?;
        match read {
            Some(_) => Ok(()),
            None => Err(unusable("what was written cannot be read", super::REMEDY_CORRUPT)),
        }
    }
}
