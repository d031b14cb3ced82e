//! Simulated people, signed in.
//!
//! Owns: bringing a planned school into a cluster; turning a list of source ids into tokens, as the real sign-in does it, or
//! (for crowds) past it. Refuses to know: what the people do.

use crate::Failure;
use crate::cast::{CastError, Ids};
use crate::cluster::{Cluster, ClusterError};
use crate::node::{Node, NodeError};
use crate::school::School;
use crate::store::Store;
use futures_util::{StreamExt, TryStreamExt, stream};
use homeroom_client::{ErrorCode, Http, HttpError, PersonId};
use indicatif::ProgressBar;
use std::collections::HashMap;
use std::time::Duration;

/// Somebody who is signed in.
#[derive(Debug, Clone)]
pub struct SignedIn {
    /// The source id in the school's files; also the sign-in name.
    pub source: String,
    /// Who it is to Homeroom.
    pub person: PersonId,
    /// The bearer token.
    pub token: String,
}

/// Why somebody could not be signed in.
#[derive(Debug, thiserror::Error)]
pub enum SignInError {
    /// No invitation.
    #[error("people could not be invited")]
    Invite(#[from] NodeError),
    /// The server has no address yet.
    #[error("the server is not running")]
    NotRunning(#[from] homeroom_client::NotAnAddress),
    /// The sign-in failed.
    #[error("{who} could not sign in")]
    SignIn {
        /// Who.
        who: String,
        /// Why.
        #[source]
        source: HttpError,
    },
    /// No token came.
    #[error("{0} was signed in without a token")]
    NoToken(String),
}

/// Imports a planned school through a cluster's first node: its database, and the ids that the import gave.
///
/// # Errors
/// When the school can't be imported, or the database not be read.
pub async fn move_in(cluster: &Cluster, school: &School) -> Result<(Store, Ids), Failure> {
    let files = cluster.folder().join("school");
    std::fs::create_dir(&files)?;
    school.write(&files)?;
    let Some(first) = cluster.nodes.first() else { return Err(Failure::Gone) };
    first.import(&files).await.map_err(ClusterError::from)?;
    let store = Store::postgres(&cluster.postgres.url()).await?;
    let ids = Ids::read(&store, school).await?;
    Ok((store, ids))
}

/// Invites everybody through the command line and signs them in over HTTP, in the order of `people`.
///
/// # Errors
/// See [`SignInError`].
pub async fn sign_in(node: &Node, people: &[String], progress: &ProgressBar) -> Result<Vec<SignedIn>, SignInError> {
    let invitations = node.invite(people).await?;
    let http = Http::new(node.address()?).map_err(|source| SignInError::SignIn { who: "nobody".to_owned(), source })?;
    let by_name: HashMap<String, SignedIn> = stream::iter(invitations)
        .map(|invitation| {
            let http = &http;
            async move {
                let signed_in = patiently(http, &invitation.link)
                    .await
                    .map_err(|source| SignInError::SignIn { who: invitation.username.clone(), source })?;
                let token = signed_in.token.ok_or_else(|| SignInError::NoToken(invitation.username.clone()))?;
                progress.inc(1);
                let person = signed_in.you.person;
                Ok::<_, SignInError>((
                    invitation.username.clone(),
                    SignedIn { source: invitation.username, person, token },
                ))
            }
        })
        .buffer_unordered(4)
        .try_collect()
        .await?;
    people.iter().map(|name| by_name.get(name).cloned().ok_or_else(|| SignInError::NoToken(name.clone()))).collect()
}

/// Signs a crowd in by writing it into the database of a server that does not run yet.
///
/// # Errors
/// When somebody is missing in it, or it can't be written.
pub async fn write_in(store: &Store, ids: &Ids, people: &[String]) -> Result<Vec<SignedIn>, CastError> {
    let persons = people.iter().map(|source| ids.person(source)).collect::<Result<Vec<_>, _>>()?;
    let tokens = store.sign_in(&persons).await?;
    let crowd = people.iter().zip(persons).zip(tokens);
    Ok(crowd.map(|((source, person), token)| SignedIn { source: source.clone(), person, token }).collect())
}

/// Signs in, and waits when the server wants it slower: all of a load test comes from one address.
async fn patiently(http: &Http, link: &str) -> Result<homeroom_client::SignedIn, HttpError> {
    for _ in 0..120 {
        match http.sign_in_with_link(link).await {
            Err(HttpError::Refused { fault, .. }) if fault.code == ErrorCode::RateLimited => {
                let wait = Duration::from_millis(fault.retry_after_ms.unwrap_or(500).into());
                tokio::time::sleep(wait.min(Duration::from_secs(5))).await;
            }
            answer => return answer,
        }
    }
    http.sign_in_with_link(link).await
}
