//! The HTTP API: signing in, and the pages beside the live events.
//!
//! Owns: the calls, the bearer token, and telling a refusal from a failure. Refuses to know: the socket.

use crate::address::ServerAddress;
use crate::trust::Trust;
use homeroom_protocol::{
    ChangeMe, ConversationId, EventId, Fault, HistoryPage, Home, Keep, Language, Reach, RoomDetail, RoomId,
    SignInWithCode, SignInWithLink, SignedIn, You,
};
use reqwest::{Method, RequestBuilder, StatusCode};
use serde::de::DeserializeOwned;
use std::time::Duration;

/// How long one call may take.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The server refused.
    #[error("{fault}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// What and why; it is this error's own line.
        fault: Fault,
    },
    /// Something that is no Homeroom server answered, or a proxy before it.
    #[error("the server answered with status {status}, and not in Homeroom's words")]
    Unexpected {
        /// The HTTP status.
        status: u16,
    },
    /// No answer came.
    #[error("the server could not be reached")]
    Unreachable(#[from] reqwest::Error),
}

/// The HTTP API of one server, for one person once signed in.
#[derive(Debug, Clone)]
pub struct Http {
    client: reqwest::Client,
    server: ServerAddress,
    token: Option<String>,
}

impl Http {
    /// For signing in.
    ///
    /// # Errors
    /// When no HTTP client can be made on this machine.
    pub fn new(server: ServerAddress) -> Result<Self, HttpError> {
        Self::trusting(server, &Trust::system())
    }

    /// The same, believing other certificates than those that the operating system trusts.
    ///
    /// # Errors
    /// When no HTTP client can be made on this machine.
    pub fn trusting(server: ServerAddress, trust: &Trust) -> Result<Self, HttpError> {
        let builder = reqwest::Client::builder().timeout(TIMEOUT);
        let client = trust.apply(builder, server.is_encrypted())?.build()?;
        Ok(Self { client, server, token: None })
    }

    /// The same for a person who is signed in.
    #[must_use]
    pub fn with_token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// Uses up a one-time code. The answer holds a token.
    ///
    /// # Errors
    /// See [`HttpError`]; a wrong code is `unauthenticated`, too many tries `rate_limited`.
    pub async fn sign_in_with_code(&self, name: &str, code: &str) -> Result<SignedIn, HttpError> {
        let body = SignInWithCode { name: name.to_owned(), code: code.to_owned(), keep: Keep::Token };
        call(self.request(Method::POST, "sign-in/code").json(&body)).await
    }

    /// Uses up a one-time link: the whole link, or its secret alone. The answer holds a token.
    ///
    /// # Errors
    /// See [`HttpError`].
    pub async fn sign_in_with_link(&self, link: &str) -> Result<SignedIn, HttpError> {
        let body = SignInWithLink { secret: secret_of(link).to_owned(), keep: Keep::Token };
        call(self.request(Method::POST, "sign-in/link").json(&body)).await
    }

    /// Ends the sign-in; the token is worth nothing from then on.
    ///
    /// # Errors
    /// See [`HttpError`].
    pub async fn sign_out(&self) -> Result<(), HttpError> {
        let response = self.request(Method::POST, "sign-out").send().await?;
        accepted(response).await.map(drop)
    }

    /// Who is signed in.
    ///
    /// # Errors
    /// See [`HttpError`].
    pub async fn me(&self) -> Result<You, HttpError> {
        call(self.request(Method::GET, "me")).await
    }

    /// Changes the language that the person reads.
    ///
    /// # Errors
    /// See [`HttpError`].
    pub async fn change_language(&self, language: Language) -> Result<You, HttpError> {
        call(self.request(Method::PATCH, "me").json(&ChangeMe { language })).await
    }

    /// The first screen: rooms and conversations.
    ///
    /// # Errors
    /// See [`HttpError`].
    pub async fn home(&self) -> Result<Home, HttpError> {
        call(self.request(Method::GET, "home")).await
    }

    /// A room, opened.
    ///
    /// # Errors
    /// See [`HttpError`].
    pub async fn room(&self, room: RoomId) -> Result<RoomDetail, HttpError> {
        call(self.request(Method::GET, &format!("rooms/{room}"))).await
    }

    /// A page of messages as they stand now, newest first: those before the number `before`, or the newest.
    ///
    /// # Errors
    /// See [`HttpError`].
    pub async fn history(
        &self,
        room: RoomId,
        conversation: ConversationId,
        before: Option<u64>,
        limit: Option<u32>,
    ) -> Result<HistoryPage, HttpError> {
        let mut path = format!("rooms/{room}/conversations/{conversation}/messages");
        let mut sign = '?';
        for (name, value) in [("before", before), ("limit", limit.map(u64::from))] {
            if let Some(value) = value {
                path.push_str(&format!("{sign}{name}={value}"));
                sign = '&';
            }
        }
        call(self.request(Method::GET, &path)).await
    }

    /// Whom an announcement has reached. Staff only.
    ///
    /// # Errors
    /// See [`HttpError`].
    pub async fn reach(&self, room: RoomId, message: EventId) -> Result<Reach, HttpError> {
        call(self.request(Method::GET, &format!("rooms/{room}/messages/{message}/reach"))).await
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.client.request(method, self.server.api(path));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }
}

async fn call<T: DeserializeOwned>(request: RequestBuilder) -> Result<T, HttpError> {
    let response = accepted(request.send().await?).await?;
    let status = response.status().as_u16();
    response.json().await.map_err(|error| match error {
        error if error.is_decode() => HttpError::Unexpected { status },
        error => HttpError::Unreachable(error),
    })
}

/// The response, if it is not a refusal.
async fn accepted(response: reqwest::Response) -> Result<reqwest::Response, HttpError> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let fault = response.json::<Fault>().await;
    let status = StatusCode::as_u16(&status);
    Err(fault.map_or(HttpError::Unexpected { status }, |fault| HttpError::Refused { status, fault }))
}

/// The part of a link after `/i/`.
fn secret_of(link: &str) -> &str {
    let link = link.trim();
    let rest = link.rsplit_once("/i/").map_or(link, |(_, secret)| secret);
    rest.split(['?', '#', '/']).next().unwrap_or(rest)
}

#[cfg(test)]
mod tests {
    use super::secret_of;

    #[test]
    fn links_are_taken_whole_or_by_their_secret() {
        for link in ["http://127.0.0.1:8080/i/abc-1", "abc-1", " https://x.example/i/abc-1?utm=1\n", "/i/abc-1#x"] {
            assert_eq!(secret_of(link), "abc-1");
        }
    }
}
