//! What goes from a damaged file into a new one beside the records.

use rusqlite::{Connection, Transaction, params};

/// A table beside the records, and the types that the values of its columns may have. Damage may change the type of a
/// value, and one such row in the new file would make it damaged again.
pub(super) type Table = (&'static str, &'static [(&'static str, &'static str)]);

/// What comes before the records. A command must not run twice because the file was damaged.
pub(super) const FIRST: [Table; 3] = [
    (
        "runs",
        &[
            ("run", "integer"),
            ("boot", "text"),
            ("uptime", "integer"),
            ("floor", "integer"),
            ("ceiling", "integer"),
            ("clean", "integer"),
        ],
    ),
    ("lost", &[("run", "integer"), ("first", "integer"), ("last", "integer"), ("reason", "text")]),
    (
        "commands",
        &[
            ("topic", "text"),
            ("id", "text"),
            ("digest", "blob"),
            ("begun", "integer"),
            ("action", "text"),
            ("reply", "text"),
            ("correlation", "blob null"),
            ("outcome", "blob null"),
        ],
    ),
];

/// And after them: bearing the marks of damage is what many of them are there for.
pub(super) const LAST: [Table; 1] = [(
    "aside",
    &[
        ("run", "integer"),
        ("seq", "integer"),
        ("kind", ANY),
        ("topic", ANY),
        ("body", ANY),
        ("correlation", ANY),
        ("made", ANY),
        ("uptime", ANY),
        ("synced", ANY),
        ("crc", ANY),
        ("reason", "text"),
        ("at", "integer"),
    ],
)];
const ANY: &str = "integer real text blob null";

/// Carries over each row that can be read.
pub(super) fn carry_over(old: &Connection, tx: &Transaction<'_>, tables: &[Table]) {
    for (table, columns) in tables {
        for order in ["ASC", "DESC"] {
            // Both ends of a table may be readable while its middle is not.
            let carried = carry_rows(old, tx, table, columns, order);
            if let Err(error) = &carried {
                tracing::debug!(%error, table, order, "a part of the damaged file cannot be read");
            } else {
                break;
            }
        }
    }
}

fn carry_rows(
    old: &Connection,
    tx: &Transaction<'_>,
    table: &str,
    columns: &[(&str, &str)],
    order: &str,
) -> rusqlite::Result<()> {
    let names = columns.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    let whole = columns.iter().map(|(name, types)| format!("instr('{types}', typeof({name}))"));
    let whole = whole.collect::<Vec<_>>().join(" AND ");
    let places = (1..=columns.len()).map(|place| format!("?{place}")).collect::<Vec<_>>().join(", ");
    let mut select =
        old.prepare(&format!("SELECT {names} FROM {table} WHERE {whole} ORDER BY 1 {order}, 2 {order}"))?;
    let mut insert = tx.prepare(&format!("INSERT OR IGNORE INTO {table} ({names}) VALUES ({places})"))?;
    let mut rows = select.query(params![])?;
    while let Some(row) = rows.next()? {
        let values = (0..columns.len()).map(|column| row.get::<_, rusqlite::types::Value>(column));
        let values: Vec<_> = values.collect::<Result<_, _>>()?;
        insert.execute(rusqlite::params_from_iter(values))?;
    }
    Ok(())
}
