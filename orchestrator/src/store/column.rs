//! Types that columns have beside those of `shared`.

use sea_orm::sea_query::{ArrayType, ColumnType, Nullable, ValueType, ValueTypeErr};
use sea_orm::{ColIdx, DbErr, IntoActiveValue, QueryResult, TryGetError, TryGetable, Value};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::str::FromStr;

/// A moment, as rows have it: to the microsecond, since that is what both databases keep.
pub(crate) type Time = chrono::DateTime<chrono::Utc>;

/// Now, by this process' clock, as a row would give it back.
pub(crate) fn now() -> Time {
    use chrono::SubsecRound;
    shared::clock::now().trunc_subsecs(6)
}

/// A document, kept as JSON in a text column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct JsonText<T>(pub(crate) T);

impl<T: Serialize> From<JsonText<T>> for Value {
    fn from(document: JsonText<T>) -> Self {
        // Documents are our own types: string keys and finite numbers, nothing that JSON refuses.
        Value::String(Some(serde_json::to_string(&document.0).unwrap_or_default()))
    }
}

impl<T: DeserializeOwned> TryGetable for JsonText<T> {
    fn try_get_by<I: ColIdx>(result: &QueryResult, index: I) -> Result<Self, TryGetError> {
        let text = String::try_get_by(result, index)?;
        match serde_json::from_str(&text) {
            Ok(document) => Ok(Self(document)),
            Err(error) => Err(TryGetError::DbErr(DbErr::Json(error.to_string()))),
        }
    }
}

impl<T: DeserializeOwned> ValueType for JsonText<T> {
    fn try_from(value: Value) -> Result<Self, ValueTypeErr> {
        let text = <String as ValueType>::try_from(value)?;
        serde_json::from_str(&text)
            .map(Self)
            .map_err(|_| ValueTypeErr)
    }

    fn type_name() -> String {
        "JsonText".to_owned()
    }

    fn array_type() -> ArrayType {
        ArrayType::String
    }

    fn column_type() -> ColumnType {
        ColumnType::Text
    }
}

impl<T> Nullable for JsonText<T> {
    fn null() -> Value {
        Value::String(None)
    }
}

impl<T: Serialize> IntoActiveValue<JsonText<T>> for JsonText<T> {
    fn into_active_value(self) -> sea_orm::ActiveValue<JsonText<T>> {
        sea_orm::ActiveValue::Set(self)
    }
}

/// A word that a row has and this release does not know.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{found}` is not a value of {kind}")]
pub(crate) struct UnknownWord {
    kind: &'static str,
    found: String,
}

macro_rules! column_words {
    ($($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal),+ $(,)? })+) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, sea_orm::DeriveValueType)]
        #[sea_orm(value_type = "String")]
        pub(crate) enum $name { $($(#[$variant_doc])* $variant),+ }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(match self { $(Self::$variant => $word),+ })
            }
        }

        impl FromStr for $name {
            type Err = UnknownWord;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                match text {
                    $($word => Ok(Self::$variant),)+
                    _ => Err(UnknownWord { kind: stringify!($name), found: text.chars().take(64).collect() }),
                }
            }
        }
    )+};
}

column_words! {
    /// What a work request asks for.
    WorkKind {
        /// Fetch, build, start, verify and switch.
        Deploy = "DEPLOY",
        /// Take up what runs without a record.
        Adopt = "ADOPT",
        /// Stop containers.
        Stop = "STOP",
        /// Start stopped containers.
        Start = "START",
        /// Stop and start containers.
        Restart = "RESTART",
        /// Remove everything.
        Destroy = "DESTROY",
        /// Give up a deployment action.
        Cancel = "CANCEL",
    }

    /// That a leased port is in use. What a node may choose from is no lease but an offer.
    LeaseState {
        /// In use, until the deployment is destroyed.
        Held = "HELD",
    }
}
