//! Where a client is: waiting, dialling, or live.
//!
//! Owns: what comes next in each. Refuses to know: what follows from it (see `driver`).

use crate::connection::{Connection, Heard};
use crate::pace::Pace;
use crate::update::Loss;
use std::future::Future;
use std::pin::Pin;
use tokio::time::{Instant, sleep_until};

/// Where the client is between two connections.
pub(crate) enum Phase {
    Waiting { until: Instant },
    Dialling(Pin<Box<dyn Future<Output = Result<Connection, Loss>> + Send>>),
    Live(Box<Live>),
}

pub(crate) struct Live {
    pub(crate) connection: Connection,
    /// Set by `welcome`; before it nothing may be sent.
    pub(crate) pace: Option<Pace>,
    pub(crate) since: Instant,
}

pub(crate) enum Step {
    Dial,
    Dialled(Result<Connection, Loss>),
    Heard(Heard),
    Lost(Loss),
}

impl Phase {
    /// What comes next in this phase. Dropping the future loses nothing.
    pub(crate) async fn step(&mut self) -> Step {
        match self {
            Self::Waiting { until } => {
                sleep_until(*until).await;
                Step::Dial
            }
            Self::Dialling(dialling) => Step::Dialled(dialling.await),
            Self::Live(live) => match live.connection.next().await {
                Ok(heard) => Step::Heard(heard),
                Err(loss) => Step::Lost(loss),
            },
        }
    }

    /// The connection, once commands may be sent on it.
    pub(crate) fn ready(&self) -> Option<&Live> {
        match self {
            Self::Live(live) if live.pace.is_some() => Some(live),
            _ => None,
        }
    }

    /// Until the socket takes frames again; for ever without one.
    pub(crate) fn room(&self) -> impl Future<Output = ()> + Send + use<> {
        let room = self.ready().map(|live| live.connection.room());
        async move {
            match room {
                Some(room) => room.await,
                None => std::future::pending().await,
            }
        }
    }
}
