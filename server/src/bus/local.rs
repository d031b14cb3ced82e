//! The bus inside one process.
//!
//! Owns: handing news to every other node of this process (one server has none; tests have several).
//! Refuses to know: other processes.

use super::{Bus, News};
use std::sync::{Arc, Mutex, PoisonError};

/// What a node does with news.
pub type OnNews = dyn Fn(News) + Send + Sync;

/// Where the nodes of one process meet. Cheap to clone.
#[derive(Clone, Default)]
pub struct Exchange(Arc<Mutex<Vec<Member>>>);

/// A node's number, and what it does with news.
type Member = (u64, Arc<OnNews>);

/// One node's end of the exchange.
pub struct Local {
    node: u64,
    exchange: Exchange,
}

impl Exchange {
    /// Adds a node; `on_news` is called with the news of all others.
    #[must_use]
    pub fn join(&self, on_news: Arc<OnNews>) -> Local {
        let mut nodes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let node = nodes.last().map_or(0, |(node, _)| node + 1);
        nodes.push((node, on_news));
        Local { node, exchange: self.clone() }
    }
}

impl Bus for Local {
    fn publish(&self, news: News) {
        let others: Vec<Arc<OnNews>> = {
            let nodes = self.exchange.0.lock().unwrap_or_else(PoisonError::into_inner);
            nodes.iter().filter(|(node, _)| *node != self.node).map(|(_, on_news)| on_news.clone()).collect()
        };
        for on_news in others {
            on_news(news.clone());
        }
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        let mut nodes = self.exchange.0.lock().unwrap_or_else(PoisonError::into_inner);
        nodes.retain(|(node, _)| *node != self.node);
    }
}
