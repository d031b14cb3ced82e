//! The bus inside one process.
//!
//! Owns: handing news to every other node of this process (one server has none; tests have several).
//! Refuses to know: other processes, and which rooms a node holds: its tails pass over the others.

use super::{Bus, Counts, HEARD, News, Waiting};
use homeroom_protocol::RoomId;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::mpsc;

/// Where the nodes of one process meet. Cheap to clone.
#[derive(Clone, Default)]
pub struct Exchange(Arc<Mutex<Vec<Member>>>);

/// A node's number, its counts, and the way to it.
type Member = (u64, Arc<Counts>, mpsc::Sender<News>);

/// One node's end of the exchange.
pub struct Local {
    node: u64,
    exchange: Exchange,
    counts: Arc<Counts>,
}

impl Exchange {
    /// Adds a node; gives its end, and what it hears of all others.
    #[must_use]
    pub fn join(&self, counts: Arc<Counts>) -> (Local, mpsc::Receiver<News>) {
        let (news, heard) = mpsc::channel(HEARD);
        counts.reached.store(true, Ordering::Release);
        let mut nodes = self.nodes();
        let node = nodes.last().map_or(0, |(node, ..)| node + 1);
        nodes.push((node, counts.clone(), news));
        (Local { node, exchange: self.clone(), counts }, heard)
    }

    fn nodes(&self) -> MutexGuard<'_, Vec<Member>> {
        // No code under this lock panics half-way through a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Bus for Local {
    fn publish(&self, news: News) {
        for (node, counts, way) in self.exchange.nodes().iter() {
            if *node == self.node {
                continue;
            }
            self.counts.published.fetch_add(1, Ordering::Relaxed);
            let heard = if way.try_send(news.clone()).is_ok() { &counts.heard } else { &counts.hear_dropped };
            heard.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn hold(&self, _: RoomId) {}

    fn release(&self, _: RoomId) {}

    fn waiting(&self) -> Waiting {
        let nodes = self.exchange.nodes();
        let own = nodes.iter().find(|(node, ..)| *node == self.node);
        Waiting { to_send: 0, to_hear: own.map_or(0, |(.., way)| way.max_capacity() - way.capacity()) }
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        self.exchange.nodes().retain(|(node, ..)| *node != self.node);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[tokio::test]
    async fn what_is_heard_and_not_taken_in_waits() {
        let exchange = Exchange::default();
        let (here, _unheard) = exchange.join(Arc::default());
        let (there, mut heard) = exchange.join(Arc::default());
        for _ in 0..3 {
            here.publish(News::SignedOut(Uuid::nil()));
        }
        assert_eq!(there.waiting(), Waiting { to_send: 0, to_hear: 3 });
        drop(heard.recv().await);
        assert_eq!((there.waiting().to_hear, here.waiting().to_hear), (2, 0));
    }
}
