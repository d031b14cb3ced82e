//! Whether the schema and this binary fit.
//!
//! Owns: comparing what was migrated with what this binary knows. Refuses to know: migrating.

use super::Finding;
use crate::db::{self, Engine};
use sqlx::migrate::Migration;
use sqlx::postgres::PgConnection;
use sqlx::sqlite::SqliteConnection;

/// What a database says of its schema.
#[derive(Debug, Default)]
struct Schema {
    /// Version, whether it was finished, and its checksum.
    applied: Vec<(i64, bool, Vec<u8>)>,
    /// The oldest binary that may write it, by its newest migration.
    min_compatible: i64,
}

/// Compares.
pub(super) async fn examine(on: Engine<&mut PgConnection, &mut SqliteConnection>) -> Finding {
    let check = "database.migrations";
    let known: Vec<&Migration> = match &on {
        Engine::Postgres(_) => db::postgres_migrations().iter().collect(),
        Engine::Sqlite(_) => db::sqlite_migrations().iter().collect(),
    };
    match read(on).await {
        Ok(schema) => judge(&schema, &known),
        Err(error) => {
            let found = format!("the schema can't be read: {error}");
            Finding::broken(check, found, "give the database's user all rights on the database's tables")
        }
    }
}

async fn read(mut on: Engine<&mut PgConnection, &mut SqliteConnection>) -> Result<Schema, sqlx::Error> {
    let text = "SELECT version, success, checksum FROM _sqlx_migrations ORDER BY version";
    let applied = crate::fetch_all!(again(&mut on), (i64, bool, Vec<u8>), text);
    let applied = match applied {
        Err(error) if is_missing_table(&error) => return Ok(Schema::default()),
        applied => applied?,
    };
    let text = "SELECT min_compatible_version FROM compatibility";
    let compatible = crate::fetch_optional!(again(&mut on), (i64,), text)?;
    Ok(Schema { applied, min_compatible: compatible.map_or(0, |(version,)| version) })
}

/// The same connections, for one more statement.
fn again<'a>(
    on: &'a mut Engine<&mut PgConnection, &mut SqliteConnection>,
) -> Engine<&'a mut PgConnection, &'a mut SqliteConnection> {
    match on {
        Engine::Postgres(on) => Engine::Postgres(on),
        Engine::Sqlite(on) => Engine::Sqlite(on),
    }
}

fn is_missing_table(error: &sqlx::Error) -> bool {
    let sqlx::Error::Database(error) = error else { return false };
    error.code().as_deref() == Some("42P01") || error.message().starts_with("no such table")
}

fn judge(schema: &Schema, known: &[&Migration]) -> Finding {
    let check = "database.migrations";
    let newest = known.iter().map(|migration| migration.version).max().unwrap_or(0);
    let reached = schema.applied.iter().map(|(version, ..)| *version).max().unwrap_or(0);
    if schema.min_compatible > newest {
        let found = format!("the schema needs version {}, this homeroom knows {newest}", schema.min_compatible);
        return Finding::broken(check, found, "install the homeroom that the other nodes run, or a newer one");
    }
    if let Some((version, ..)) = schema.applied.iter().find(|(_, finished, _)| !finished) {
        let found = format!("migration {version} began and did not end");
        return Finding::broken(check, found, "restore the backup from before the upgrade, and tell us");
    }
    let other = |migration: &&&Migration| {
        let of_it = schema.applied.iter().find(|(version, ..)| *version == migration.version);
        of_it.is_some_and(|(_, _, checksum)| *checksum != *migration.checksum)
    };
    if let Some(migration) = known.iter().find(other) {
        let found = format!("migration {} was another one when it was run", migration.version);
        return Finding::broken(check, found, "this database belongs to another build of homeroom: install that one");
    }
    let pending = known.iter().filter(|migration| migration.version > reached).count();
    match (pending, reached) {
        (0, _) if reached > newest => {
            let found = format!("version {reached}, newer than this homeroom ({newest}), which may still write it");
            Finding::attention(check, found, "install the newer homeroom on this node, too")
        }
        (0, _) => Finding::ok(check, format!("version {reached}, nothing pending")),
        (_, 0) => {
            Finding::attention(check, "the database is empty", "nothing, if this is new: `homeroom serve` fills it")
        }
        (pending, _) => {
            let found = format!("version {reached}, {pending} pending");
            Finding::attention(
                check,
                found,
                "make a backup; `homeroom serve` or `homeroom migrate` brings it up to date",
            )
        }
    }
}
