//! What the reckoning begins with.
//!
//! Owns: the names of the figures, and reading them with their sources from `docs/scale.toml`. Refuses to know: what is made of them.

use super::ScaleError;
use serde::Deserialize;

/// A figure, and where it comes from.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    pub value: f64,
    pub unit: String,
    pub source: String,
}

/// The figures by their names, in the order in which they are reckoned with.
pub type Figures = Vec<(&'static str, Input)>;

macro_rules! inputs {
    ($($name:ident)*) => {
        /// All figures by their names; what they mean stands beside them in the file.
        #[derive(Debug, Clone, Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Written {
            $($name: Input,)*
        }

        /// Their values.
        #[derive(Debug, Clone, Copy)]
        pub struct Inputs {
            $(pub $name: f64,)*
        }

        impl Written {
            fn values(&self) -> Inputs {
                Inputs { $($name: self.$name.value,)* }
            }

            fn each(self) -> Figures {
                vec![$((stringify!($name), self.$name),)*]
            }
        }
    };
}

inputs! {
    children_per_family classes_per_child children_per_class staff_per_class children_per_school
    online sessions_per_online_family bell_minutes answers
    announcements_per_class_and_day private_per_family_and_week school_days
    node_cores node_memory busy connection_memory sessions_per_core sign_in_cpu delivery_cpu mark_cpu hear_cpu hear_mark_cpu
    redis_publishes redis_deliveries redis_masters_most
    postgres_appends postgres_marks postgres_sign_in_cpu look_cpu look_row_cpu look_interval commit
    postgres_cores postgres_connections_a_node postgres_connections postgres_largest
    event_bytes delivery_bytes
    price_node price_redis price_postgres price_storage price_traffic
}

/// Reads the file's text: the values, and each figure as it is written.
pub fn read(text: &str) -> Result<(Inputs, Figures), ScaleError> {
    let written: Written = toml::from_str(text)?;
    Ok((written.values(), written.each()))
}
