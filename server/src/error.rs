//! How faults look over HTTP: the one place where codes become status numbers.
//!
//! Owns: [`HttpFault`]. Refuses to know: what went wrong inside; causes are logged here, once, and never travel.

use crate::log::AppendError;
use actix_web::http::StatusCode;
use actix_web::http::header::RETRY_AFTER;
use actix_web::{HttpResponse, ResponseError};
use homeroom_protocol::{ErrorCode, Fault};
use std::fmt;

/// A fault as the answer to an HTTP request.
#[derive(Debug)]
pub struct HttpFault(pub Fault);

impl HttpFault {
    /// A fault with these words.
    #[must_use]
    pub fn new(code: ErrorCode, words: impl Into<String>) -> Self {
        Self(Fault::new(code, words))
    }

    /// There is no such thing, or it is none of the asker's.
    #[must_use]
    pub fn missing(what: &str) -> Self {
        Self::new(ErrorCode::NotFound, format!("There is no such {what}."))
    }
}

impl fmt::Display for HttpFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl ResponseError for HttpFault {
    fn status_code(&self) -> StatusCode {
        match self.0.code {
            ErrorCode::Malformed | ErrorCode::UnknownType => StatusCode::BAD_REQUEST,
            ErrorCode::Invalid | ErrorCode::TooLong => StatusCode::UNPROCESSABLE_ENTITY,
            ErrorCode::Unauthenticated => StatusCode::UNAUTHORIZED,
            ErrorCode::Forbidden => StatusCode::FORBIDDEN,
            ErrorCode::NotFound => StatusCode::NOT_FOUND,
            ErrorCode::Conflict | ErrorCode::OutOfTurn | ErrorCode::RefInUse => StatusCode::CONFLICT,
            ErrorCode::RateLimited => StatusCode::TOO_MANY_REQUESTS,
            ErrorCode::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            ErrorCode::Unknown => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = HttpResponse::build(self.status_code());
        if let Some(milliseconds) = self.0.retry_after_ms {
            response.insert_header((RETRY_AFTER, milliseconds.div_ceil(1_000).to_string()));
        }
        response.json(&self.0)
    }
}

impl From<sqlx::Error> for HttpFault {
    fn from(error: sqlx::Error) -> Self {
        tracing::error!(%error, "a request failed at the database");
        Self(AppendError::Unavailable(None).into())
    }
}

impl From<AppendError> for HttpFault {
    fn from(error: AppendError) -> Self {
        Self(error.into())
    }
}
