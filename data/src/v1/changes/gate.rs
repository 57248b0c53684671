//! What is certain to stay: a transaction is in the server's own set only once slaves have acknowledged it.

use std::sync::{Arc, Mutex, PoisonError};

use failover::GtidSet;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{
    access::Account,
    engine::Engine,
    mysql::Transaction,
    problem::{Kind, Problem},
    routing::{Pass, Quotas},
    sql::Sql,
};

/// A feed's place, and its token's count of it. Dropping it gives both back.
pub type Place = (OwnedSemaphorePermit, Pass);

/// What all feeds of a node share.
#[derive(Debug)]
pub struct Feeds {
    places: Arc<Semaphore>,
    most: u32,
    /// How many one token may have.
    most_of_each: u32,
    of_each: Arc<Quotas>,
    /// The term in which it was asked for last, and what the server had executed then.
    executed: Mutex<(u64, GtidSet)>,
    /// One asks at a time.
    asking: tokio::sync::Mutex<()>,
}

impl Feeds {
    /// So many at a time at most.
    pub fn new(most: u32) -> Self {
        let most_of_each = most.div_ceil(4);
        Self {
            places: Arc::new(Semaphore::new(most as usize)),
            most,
            most_of_each,
            of_each: Arc::new(Quotas::new(0, most_of_each)),
            executed: Mutex::default(),
            asking: tokio::sync::Mutex::default(),
        }
    }

    /// A place among them. One token has a quarter of them at most, so that none is kept out by another.
    pub fn place(&self, token: &str) -> Result<Place, Problem> {
        const MEND: &str = "end one, or follow more tables with one";
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| {
            let text = format!(
                "the master has {} change feeds, as many as it may; {MEND}",
                self.most
            );
            Problem::new(Kind::Busy, text)
        })?;
        let pass = self.of_each.enter(token).map_err(|_| {
            let text = format!(
                "the token has {} change feeds, as many as one may; {MEND}",
                self.most_of_each
            );
            Problem::new(Kind::TooManyRequests, text)
        })?;
        Ok((place, pass))
    }

    /// True where that was known to be executed when it was asked last; asks nobody.
    pub fn knows(&self, term: u64, set: &GtidSet) -> bool {
        let executed = self.executed.lock().unwrap_or_else(PoisonError::into_inner);
        executed.0 == term && executed.1.contains(set)
    }

    /// True where the server has executed that, in a term in which it leads. Whoever waits for the answer of another
    /// feed takes that.
    pub async fn has(&self, engine: &Engine, term: u64, set: &GtidSet) -> Result<bool, Problem> {
        let _turn = self.asking.lock().await;
        if self.knows(term, set) {
            return Ok(true);
        }
        let Some(now) = engine.settled().await? else {
            return Ok(false);
        };
        let has = now.contains(set);
        *self.executed.lock().unwrap_or_else(PoisonError::into_inner) = (term, now);
        Ok(has)
    }
}

impl Engine {
    /// What the server has executed; `None` where it lets nobody in any more. That is asked behind the set: a fence that
    /// ends clients must not let a commit that waits for slaves pass for an acknowledged one.
    pub async fn settled(&self) -> Result<Option<GtidSet>, Problem> {
        let mut transaction = Transaction::begin(&self.pools, Account::READER, false).await?;
        let set = transaction
            .quiet_rows(Sql::new("SELECT REPLACE(@@GLOBAL.gtid_executed, '\\n', '')"))
            .await?;
        let closed = transaction
            .quiet_rows(Sql::new("SELECT CAST(@@GLOBAL.offline_mode AS CHAR)"))
            .await?;
        transaction.rollback().await;
        if closed.number() != Some(0) {
            return Ok(None);
        }
        set_of(&set.texts()).map(Some)
    }

    /// What the server has executed, and what of it is not in its log any more.
    pub async fn history(&self) -> Result<(GtidSet, GtidSet), Problem> {
        let mut transaction = Transaction::begin(&self.pools, Account::READER, false).await?;
        let sql = "SELECT REPLACE(@@GLOBAL.gtid_executed, '\\n', '')";
        let executed = transaction.quiet_rows(Sql::new(sql)).await?;
        let sql = "SELECT REPLACE(@@GLOBAL.gtid_purged, '\\n', '')";
        let purged = transaction.quiet_rows(Sql::new(sql)).await?;
        transaction.rollback().await;
        Ok((set_of(&executed.texts())?, set_of(&purged.texts())?))
    }
}

fn set_of(texts: &[String]) -> Result<GtidSet, Problem> {
    let text = texts.first().map(String::as_str).unwrap_or_default();
    text.parse().map_err(|_| {
        tracing::error!(text, "the server's set cannot be read");
        Problem::new(
            Kind::Internal,
            "the server's set of transactions could not be read",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_token_has_a_quarter_of_the_places_and_a_feed_that_ends_gives_its_own_back() {
        let feeds = Feeds::new(8);
        let refused = |token| feeds.place(token).unwrap_err().kind();
        let first = feeds.place("a").unwrap();
        let _second = feeds.place("a").unwrap();
        assert_eq!(refused("a"), Kind::TooManyRequests);
        drop(first);
        let _again = feeds.place("a").unwrap();
        let _others: Vec<Place> = ["b", "b", "c", "c", "d", "d"]
            .map(|token| feeds.place(token).unwrap())
            .into();
        assert_eq!(refused("e"), Kind::Busy);
    }
}
