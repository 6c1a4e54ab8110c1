//! What statements run on. In the product these are sea-orm's own types; a build with the feature
//! `simulation` can also hold a simulated database.

use sea_orm::{DbErr, TransactionOptions};

#[cfg(not(feature = "simulation"))]
pub(crate) use sea_orm::{DatabaseConnection as Connection, DatabaseTransaction as Transaction};

#[cfg(feature = "simulation")]
pub(crate) use super::simulated::{Connection, Transaction};

/// A database that is really there.
#[cfg(not(feature = "simulation"))]
pub(super) const fn real(db: Connection) -> Connection {
    db
}

/// A database that is really there.
#[cfg(feature = "simulation")]
pub(super) fn real(db: sea_orm::DatabaseConnection) -> Connection {
    Connection::from(db)
}

/// Begins a transaction.
pub(super) async fn begin(
    db: &Connection,
    options: TransactionOptions,
) -> Result<Transaction, DbErr> {
    #[cfg(not(feature = "simulation"))]
    use sea_orm::TransactionTrait;
    db.begin_with_options(options).await
}
