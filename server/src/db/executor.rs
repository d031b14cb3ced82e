//! What sqlx asks of whoever runs statements, in terms of one way to run one.
//!
//! Owns: the form of it. Refuses to know: which connection a statement runs on, and how long it may take.

use futures_util::stream::{self, BoxStream, StreamExt, TryStreamExt};
use sqlx::{Database, Either};

/// A row, or that a statement is done.
pub(super) type Step<D> = Either<<D as Database>::QueryResult, <D as Database>::Row>;

/// What was read to its end, given out one after the other.
pub(super) fn each<'e, D: Database>(
    all: impl Future<Output = Result<Vec<Step<D>>, sqlx::Error>> + Send + 'e,
) -> BoxStream<'e, Result<Step<D>, sqlx::Error>> {
    stream::once(all).map_ok(|steps| stream::iter(steps.into_iter().map(Ok))).try_flatten().boxed()
}

/// Makes a type run statements: `$run!(self, on => what is to be run on the connection)` gives the outcome.
macro_rules! executor {
    ($database:ty, $type:ty, $run:ident) => {
        impl<'c> sqlx::Executor<'c> for $type {
            type Database = $database;

            fn fetch_many<'e, 'q: 'e, E>(
                self,
                query: E,
            ) -> futures_util::stream::BoxStream<'e, Result<$crate::db::executor::Step<$database>, sqlx::Error>>
            where
                'c: 'e,
                E: 'q + sqlx::Execute<'q, $database>,
            {
                $crate::db::executor::each::<$database>(async move {
                    $run!(self, on => futures_util::TryStreamExt::try_collect(sqlx::Executor::fetch_many(on, query)))
                })
            }

            fn fetch_optional<'e, 'q: 'e, E>(
                self,
                query: E,
            ) -> futures_util::future::BoxFuture<
                'e,
                Result<Option<<$database as sqlx::Database>::Row>, sqlx::Error>,
            >
            where
                'c: 'e,
                E: 'q + sqlx::Execute<'q, $database>,
            {
                Box::pin(async move { $run!(self, on => sqlx::Executor::fetch_optional(on, query)) })
            }

            fn prepare_with<'e>(
                self,
                sql: sqlx::SqlStr,
                parameters: &'e [<$database as sqlx::Database>::TypeInfo],
            ) -> futures_util::future::BoxFuture<
                'e,
                Result<<$database as sqlx::Database>::Statement, sqlx::Error>,
            >
            where
                'c: 'e,
            {
                Box::pin(async move { $run!(self, on => sqlx::Executor::prepare_with(on, sql, parameters)) })
            }

            fn describe<'e>(
                self,
                sql: sqlx::SqlStr,
            ) -> futures_util::future::BoxFuture<'e, Result<sqlx::Describe<$database>, sqlx::Error>>
            where
                'c: 'e,
            {
                Box::pin(async move { $run!(self, on => sqlx::Executor::describe(on, sql)) })
            }
        }
    };
}
pub(super) use executor;
