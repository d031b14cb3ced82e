//! One text of SQL on whichever engine it is.
//!
//! Owns: the macros that bind and run it. Both engines take `$1`, `ON CONFLICT`, `RETURNING`, CTEs and window functions, and
//! `#[derive(FromRow)]` is generic over the row, so most queries are written once. Refuses to know: what is asked.

/// Runs one statement on either engine: `execute!(db.writes(), "UPDATE …", bind, bind)` gives the number of rows.
#[macro_export]
macro_rules! execute {
    ($on:expr, $sql:expr $(, $bind:expr)* $(,)?) => {
        match $on {
            $crate::db::Engine::Postgres(on) => {
                sqlx::query::<sqlx::Postgres>($sql)$(.bind($bind))*.execute(on).await.map(|done| done.rows_affected())
            }
            $crate::db::Engine::Sqlite(on) => {
                sqlx::query::<sqlx::Sqlite>($sql)$(.bind($bind))*.execute(on).await.map(|done| done.rows_affected())
            }
        }
    };
}

/// All rows of a query as `Row`s: `fetch_all!(db.reads(), Row, "SELECT …", bind)`.
#[macro_export]
macro_rules! fetch_all {
    ($on:expr, $row:ty, $sql:expr $(, $bind:expr)* $(,)?) => {
        match $on {
            $crate::db::Engine::Postgres(on) => {
                sqlx::query_as::<sqlx::Postgres, $row>($sql)$(.bind($bind))*.fetch_all(on).await
            }
            $crate::db::Engine::Sqlite(on) => {
                sqlx::query_as::<sqlx::Sqlite, $row>($sql)$(.bind($bind))*.fetch_all(on).await
            }
        }
    };
}

/// All rows that are among some keys, in one statement: `fetch_among!(db.reads(), Row, text: &names, "SELECT … WHERE name", "AND …",
/// bind)`. The keys are the first bind, `$1`; `uuid: &ids` takes [`uuid::Uuid`]s. PostgreSQL gets an array, SQLite JSON.
#[macro_export]
macro_rules! fetch_among {
    ($on:expr, $row:ty, text: $keys:expr, $before:expr, $after:expr $(, $bind:expr)* $(,)?) => {
        match $on {
            $crate::db::Engine::Postgres(on) => {
                let keys: Vec<&str> = $keys.iter().map(AsRef::as_ref).collect();
                sqlx::query_as::<sqlx::Postgres, $row>(concat!($before, " = ANY($1) ", $after))
                    .bind(keys)$(.bind($bind))*.fetch_all(on).await
            }
            $crate::db::Engine::Sqlite(on) => {
                let keys = $keys.iter().map(|key| serde_json::Value::String(AsRef::<str>::as_ref(key).to_owned()));
                sqlx::query_as::<sqlx::Sqlite, $row>(concat!($before, " IN (SELECT value FROM json_each($1)) ", $after))
                    .bind(serde_json::Value::Array(keys.collect()))$(.bind($bind))*.fetch_all(on).await
            }
        }
    };
    ($on:expr, $row:ty, uuid: $keys:expr, $before:expr, $after:expr $(, $bind:expr)* $(,)?) => {
        match $on {
            $crate::db::Engine::Postgres(on) => {
                let keys: Vec<uuid::Uuid> = $keys.iter().copied().collect();
                sqlx::query_as::<sqlx::Postgres, $row>(concat!($before, " = ANY($1) ", $after))
                    .bind(keys)$(.bind($bind))*.fetch_all(on).await
            }
            $crate::db::Engine::Sqlite(on) => {
                let keys = $keys.iter().map(|key| serde_json::Value::String(key.simple().to_string()));
                sqlx::query_as::<sqlx::Sqlite, $row>(
                    concat!($before, " IN (SELECT unhex(value) FROM json_each($1)) ", $after),
                )
                .bind(serde_json::Value::Array(keys.collect()))$(.bind($bind))*.fetch_all(on).await
            }
        }
    };
}

/// The first row of a query, if there is one.
#[macro_export]
macro_rules! fetch_optional {
    ($on:expr, $row:ty, $sql:expr $(, $bind:expr)* $(,)?) => {
        match $on {
            $crate::db::Engine::Postgres(on) => {
                sqlx::query_as::<sqlx::Postgres, $row>($sql)$(.bind($bind))*.fetch_optional(on).await
            }
            $crate::db::Engine::Sqlite(on) => {
                sqlx::query_as::<sqlx::Sqlite, $row>($sql)$(.bind($bind))*.fetch_optional(on).await
            }
        }
    };
}
