//! What can be wrong with a table, a column or a trigger.

use pgrx::PgSqlErrorCode;

/// Why a column cannot be what an embedding needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ColumnFault {
    /// There is none of that name.
    Missing,
    /// There is none of the name that a trigger has.
    MissingToTrigger { trigger: String },
    /// Its type, named here, is none of text.
    NoText { of: String },
    /// Its type, named here, is not one of pgvector's.
    NoVector { of: String },
    /// It cannot keep a model's hash.
    NoHash { of: String },
    /// Its text is generated, and not there when it is needed.
    GeneratedSource { stored: bool },
    /// Its vector would be generated.
    GeneratedVector,
    /// Vectors of the model do not fit.
    Dimensions { column: usize, model: String, vector: usize },
    /// It is named twice.
    Repeated,
    /// Its vector is written after the row.
    NotNull { timing: &'static str },
    /// A trigger that was not made by `attach` fills it.
    FilledBy { trigger: String },
    /// It is attached, and its vectors are those of another model.
    OtherModel { attached: String },
    /// It is to have a document's key, and its type has no equality.
    NoEquality,
    /// It is not attached, or not any more.
    NotAttached,
    /// No other column is to take its place.
    NotRenewed,
    /// One is, of another model.
    RenewedBy { model: String },
    /// Its rows tell their model, which those of another column would, too.
    Provenance,
    /// It is attached, and its vectors are those of other columns.
    OtherColumns { attached: String },
    /// A relation that this one is compared with has it.
    OnlyIn { source: String },
    /// Values of the other relation's column of that name cannot be cast to its type.
    NoCast { of: String, from: String },
    /// Its type has no order, by which rows are found.
    NoKey { of: String },
}

/// Why a table cannot have what an embedding needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TableFault {
    /// It is not a table.
    Kind,
    /// It is partitioned or foreign, and the trigger is one for statements.
    NoStatements { kind: &'static str },
    /// It has no primary key.
    NoPrimaryKey,
    /// Its primary key is not one of equality.
    KeyWithoutEquality,
    /// A trigger of its own changes the text whenever a vector is written back.
    TextChanges,
    /// A trigger of its own keeps vectors from being written back.
    Suppressed { rows: u64 },
    /// It has rules for UPDATE.
    Rules,
    /// It is a partition or inherits from another table.
    HasParent,
    /// It is no table that can have chunks.
    ChunkKind,
    /// It cannot have chunks elsewhere, for a reason for which it cannot have triggers for statements either.
    Documents(Box<TableFault>),
    /// It has the chunks of other documents.
    ChunksOfAnother { documents: String },
    /// It would have its own chunks.
    OwnChunks,
    /// It has chunks of a table of somebody else.
    OtherOwner { documents: String },
    /// Other columns are named for its key than it has.
    KeyColumns { key: usize, named: usize },
    /// A unique index allows a document one chunk only.
    OneChunk { index: String },
    /// It has columns that must not be NULL and are not filled.
    Unfilled { columns: Vec<String> },
    /// Its chunks are kept in that table, in another way.
    OtherChunks { chunks: String },
    /// A trigger of its own has left chunks as they were.
    ChunksLeft { rows: u64 },
    /// It has rules.
    ChunkRules,
    /// It is an index or the like.
    NoRows,
    /// It has no primary key to tell rows by.
    NoKey,
    /// It is a partition, whose sequences are those of the whole.
    Partition,
    /// Row security hides some of its rows.
    RowSecurity,
    /// Its queue is not there.
    NoQueue { queue: String },
    /// It is the queue of a relation of somebody else.
    OthersQueue { relation: String },
    /// It is to be the queue of a relation, and is not as such queues are made.
    OtherQueue { relation: String },
    /// It is a queue, and one of its triggers keeps items from being deleted or changed.
    ItemsStay { items: u64 },
    /// It is temporary.
    TemporaryQueue,
    /// Its queue is not empty.
    RowsWait { rows: i64 },
    /// No column of it is attached.
    NothingAttached,
    /// It has no primary key to go through it by.
    NoOrder,
    /// Indexes of a column are missing or not valid for the column that takes its place.
    NoIndexes { names: Vec<String> },
    /// Rows lack the vector of a new column.
    StillMissing { rows: i64, column: String },
    /// Views and the like would stay with the old column.
    Dependents { column: String, dependents: Vec<String> },
}

/// Why a trigger cannot do its work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TriggerFault {
    /// It fires at another event than its function is for.
    Event { expected: &'static str },
    /// It has no transition tables.
    TransitionTables { referencing: &'static str },
    /// It has too few arguments.
    Arguments,
    /// Its arguments are not those that `attach_chunks` writes.
    ChunkArguments,
    /// There is no such chunk table.
    NoChunkTable { table: String },
    /// Its comment does not record a queue for its arguments.
    NoQueue,
}

/// What SQL users see of a fault.
pub(super) struct Told {
    pub(super) code: PgSqlErrorCode,
    pub(super) message: String,
    pub(super) detail: Option<String>,
    pub(super) hint: Option<String>,
}

impl Told {
    pub(super) fn new(code: PgSqlErrorCode, message: String) -> Self {
        Self { code, message, detail: None, hint: None }
    }

    pub(super) fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl ColumnFault {
    pub(super) fn tell(&self, column: &str, table: &str) -> Told {
        let name = format!("column \"{column}\" of relation \"{table}\"");
        match self {
            Self::Missing => {
                Told::new(PgSqlErrorCode::ERRCODE_UNDEFINED_COLUMN, format!("{name} does not exist"))
            }
            Self::MissingToTrigger { trigger } => Told::new(
                PgSqlErrorCode::ERRCODE_UNDEFINED_COLUMN,
                format!("{name} does not exist"),
            )
            .detail(format!("Trigger \"{trigger}\" names it."))
            .hint("If it was renamed or dropped, make the trigger anew, or detach and attach the column."),
            Self::NoText { of } => {
                let message = format!("{name} is of type {of}, which cannot be embedded");
                Told::new(PgSqlErrorCode::ERRCODE_DATATYPE_MISMATCH, message)
                    .hint("Types text, varchar, char, citext, json, jsonb and domains over them can be.")
            }
            Self::NoVector { of } => {
                let message = format!("{name} is of type {of}, which takes no vectors");
                Told::new(PgSqlErrorCode::ERRCODE_DATATYPE_MISMATCH, message)
                    .hint("Types vector and halfvec of pgvector and domains over them do.")
            }
            Self::NoHash { of } => {
                let message = format!("{name} of type {of} cannot keep the hash of a model");
                Told::new(PgSqlErrorCode::ERRCODE_DATATYPE_MISMATCH, message)
                    .hint("Types text and varchar can, of 64 characters or more, where it is not generated.")
            }
            Self::GeneratedSource { stored } => {
                let told = Told::new(
                    PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
                    format!("generated {name} cannot be embedded"),
                );
                if *stored {
                    told.detail("Its value does not exist yet when a BEFORE trigger runs.")
                        .hint("Embed the columns that it is generated from, or use a trigger for statements.")
                } else {
                    told.detail("Its value is not stored.")
                        .hint("Embed the columns that it is generated from.")
                }
            }
            Self::GeneratedVector => {
                let message = format!("generated {name} cannot be filled by a trigger");
                Told::new(PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED, message)
                    .detail("Its value is computed after the trigger.")
            }
            Self::Dimensions { column: expected, model, vector } => {
                let message = format!("expected {expected} dimensions, not {vector}");
                Told::new(PgSqlErrorCode::ERRCODE_DATA_EXCEPTION, message).detail(format!(
                    "Column \"{column}\" of relation \"{table}\" has {expected} dimensions, vectors of model \
                     \"{model}\" have {vector}."
                ))
            }
            Self::Repeated => Told::new(
                PgSqlErrorCode::ERRCODE_DUPLICATE_COLUMN,
                format!("column \"{column}\" specified more than once"),
            ),
            Self::NotNull { timing } => Told::new(
                PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
                format!("{name} is NOT NULL, which timing \"{timing}\" cannot serve"),
            )
            .detail("Rows are stored before their vectors are computed.")
            .hint("Use timing \"row\"."),
            Self::FilledBy { trigger } => Told::new(
                PgSqlErrorCode::ERRCODE_DUPLICATE_OBJECT,
                format!("{name} is already filled by trigger \"{trigger}\""),
            )
            .hint("Drop the trigger first."),
            Self::NoEquality => Told::new(
                PgSqlErrorCode::ERRCODE_DATATYPE_MISMATCH,
                format!("{name} is of a type without equality, which cannot be a key"),
            ),
            Self::OtherModel { attached } => Told::new(
                PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("{name} is attached to another model"),
            )
            .detail(format!(
                "Its vectors were made by {attached}; those of different models cannot be compared."
            ))
            .hint("Detach it, embed all rows anew, then attach it."),
            Self::NotRenewed => Told::new(
                PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("{name} is not being embedded anew"),
            )
            .hint("Begin with vector_embed.reembed_start."),
            Self::RenewedBy { model } => Told::new(
                PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("{name} is being embedded anew with model \"{model}\""),
            )
            .hint("Finish it, or undo it with vector_embed.reembed_cancel."),
            Self::Provenance => Told::new(
                PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
                format!("{name} is attached with provenance, which cannot be embedded anew beside it"),
            )
            .hint("Detach it, and attach it without provenance."),
            Self::NotAttached => Told::new(
                PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("{name} is not attached"),
            )
            .hint("Attach it with vector_embed.attach."),
            Self::OtherColumns { attached } => Told::new(
                PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("{name} is attached to other columns"),
            )
            .detail(format!("Its vectors are those of {attached}."))
            .hint("Detach it, attach it anew, and embed all rows anew."),
            Self::OnlyIn { source } => {
                Told::new(PgSqlErrorCode::ERRCODE_UNDEFINED_COLUMN, format!("{name} does not exist"))
                    .detail(format!("Relation \"{source}\" has it."))
                    .hint("Name the columns to compare by the argument \"columns\".")
            }
            Self::NoCast { of, from } => Told::new(
                PgSqlErrorCode::ERRCODE_CANNOT_COERCE,
                format!("{name} is of type {of}, to which type {from} of the source cannot be cast"),
            )
            .hint("Compare with a view that casts it, or leave it out by the argument \"columns\"."),
            Self::NoKey { of } => Told::new(
                PgSqlErrorCode::ERRCODE_DATATYPE_MISMATCH,
                format!("{name} is of type {of}, whose values cannot be sorted"),
            )
            .hint("Name other columns as key."),
        }
    }
}

impl TableFault {
    pub(super) fn tell(&self, table: &str) -> Told {
        match self {
            Self::Kind => Told::new(
                PgSqlErrorCode::ERRCODE_WRONG_OBJECT_TYPE,
                format!("relation \"{table}\" is not a table"),
            ),
            Self::NoIndexes { names } => Told::new(
                PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("indexes of the new column of relation \"{table}\" are missing or not valid"),
            )
            .detail(format!("These are not there, or have no counterpart: {}.", names.join(", ")))
            .hint("Run the statements that vector_embed.reembed_indexes gives."),
            Self::StillMissing { rows, column } => Told::new(
                PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("{} of relation \"{table}\" without a vector in column \"{column}\"", rows_of(*rows as u64)),
            )
            .hint("Call vector_embed.backfill, or pass allow_missing => true."),
            Self::Dependents { column, dependents } => Told::new(
                PgSqlErrorCode::ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST,
                format!("other objects depend on column \"{column}\" of relation \"{table}\""),
            )
            .detail(format!("They would stay with the old column: {}.", dependents.join(", ")))
            .hint("Drop them and make them anew afterwards, or pass keep_dependents => true."),
            Self::NoOrder => Told::new(
                PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("relation \"{table}\" has no primary key"),
            )
            .detail("Rows are found, and gone through, by primary key.")
            .hint("Add a primary key."),
            Self::NothingAttached => Told::new(
                PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("no column of relation \"{table}\" is attached"),
            )
            .hint("Attach one with vector_embed.attach or vector_embed.attach_chunks."),
            Self::NoStatements { kind } => Told::new(
                PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
                format!("relation \"{table}\" is {kind}, which triggers for statements cannot serve"),
            )
            .hint("Use embed_row, or attach with timing \"row\"."),
            Self::TextChanges => Told::new(
                PgSqlErrorCode::ERRCODE_TRIGGERED_DATA_CHANGE_VIOLATION,
                format!("text in relation \"{table}\" changes whenever its vectors are stored"),
            )
            .detail("A trigger of the table's own changes the text at every UPDATE, that of the vectors included.")
            .hint("Have it change the text only where it has to, or use embed_row or timing \"row\"."),
            Self::Suppressed { rows } => Told::new(
                PgSqlErrorCode::ERRCODE_TRIGGERED_DATA_CHANGE_VIOLATION,
                format!("could not write vectors to relation \"{table}\""),
            )
            .detail(format!("A trigger of the table's own has left {rows} rows as they were."))
            .hint("Have it let UPDATEs of the vector column pass, or use embed_row or timing \"row\"."),
            Self::Rules => Told::new(
                PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
                format!("relation \"{table}\" has rules for UPDATE, which triggers for statements cannot serve"),
            )
            .hint("Use embed_row, or attach with timing \"row\"."),
            Self::HasParent => Told::new(
                PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
                format!("relation \"{table}\" is part of another, which triggers for statements cannot serve"),
            )
            .detail("Statements that name its parent do not fire its triggers.")
            .hint("Use embed_row, or attach with timing \"row\"."),
            Self::KeyWithoutEquality => Told::new(
                PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
                format!("primary key of relation \"{table}\" is not a B-tree"),
            )
            .hint("Use embed_row, or timing \"row\"."),
            Self::ChunkKind => Told::new(
                PgSqlErrorCode::ERRCODE_WRONG_OBJECT_TYPE,
                format!("relation \"{table}\" is not an ordinary table, which chunks need"),
            ),
            Self::Documents(fault) => match &**fault {
                Self::NoPrimaryKey => fault
                    .tell(table)
                    .detail("Chunks belong to a document by its primary key.")
                    .hint("Add a primary key."),
                fault => Told { hint: None, ..fault.tell(table) },
            },
            Self::ChunksOfAnother { documents } => Told::new(
                PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("relation \"{table}\" has the chunks of relation \"{documents}\""),
            )
            .detail("Documents of both with equal keys could not be told apart.")
            .hint("Use one chunk table for each table of documents."),
            Self::OwnChunks => Told::new(
                PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
                format!("relation \"{table}\" cannot have its own chunks"),
            ),
            Self::OtherOwner { documents } => Told::new(
                PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
                format!("relations \"{documents}\" and \"{table}\" have different owners"),
            )
            .detail("Who writes documents runs the triggers of both tables.")
            .hint("Give both tables one owner."),
            Self::KeyColumns { key, named } => Told::new(
                PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
                format!("{named} columns are named for the primary key of relation \"{table}\""),
            )
            .detail(format!("The key has {key}.")),
            Self::OneChunk { index } => Told::new(
                PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("unique index \"{index}\" allows a document one chunk in relation \"{table}\""),
            )
            .hint("Replace it by one that has the column of the chunk's index, too."),
            Self::Unfilled { columns } => Told::new(
                PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("columns of relation \"{table}\" are NOT NULL and not filled: {}", columns.join(", ")),
            )
            .hint("Name columns of the documents to fill them from, give them defaults, or drop NOT NULL."),
            Self::OtherChunks { chunks } => Told::new(
                PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("chunk table \"{chunks}\" of relation \"{table}\" is attached in another way"),
            )
            .hint("Detach it, make sure of its chunks, and attach it."),
            Self::ChunksLeft { rows } => Told::new(
                PgSqlErrorCode::ERRCODE_TRIGGERED_DATA_CHANGE_VIOLATION,
                format!("could not write chunks to relation \"{table}\""),
            )
            .detail(format!("A trigger of the table's own has left {rows} rows as they were."))
            .hint("Have it let all rows pass."),
            Self::ChunkRules => Told::new(
                PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
                format!("relation \"{table}\" has rules, which chunks cannot be written with"),
            ),
            Self::NoRows => Told::new(
                PgSqlErrorCode::ERRCODE_WRONG_OBJECT_TYPE,
                format!("relation \"{table}\" is not a table, a view or a foreign table"),
            ),
            Self::NoKey => Told::new(
                PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("relation \"{table}\" has no primary key"),
            )
            .detail("Rows of the two relations are found by the target's primary key.")
            .hint("Name the columns that identify a row by the argument \"key\"."),
            Self::NoQueue { queue } => Told::new(
                PgSqlErrorCode::ERRCODE_UNDEFINED_TABLE,
                format!("queue {queue} of relation \"{table}\" does not exist"),
            )
            .detail("A queue is in the schema of its relation, by the name that the comments of the triggers record.")
            .hint("Move or rename it back, or detach the column, attach it anew, and embed its rows anew."),
            Self::OthersQueue { relation } => Told::new(
                PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
                format!("relation \"{relation}\" and its queue \"{table}\" have different owners"),
            )
            .detail("Rows are queued with the owner's privileges.")
            .hint("Give both tables one owner."),
            Self::OtherQueue { relation } => Told::new(
                PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("relation \"{table}\" cannot be the queue of relation \"{relation}\""),
            )
            .detail("A queue is an ordinary table without rules, and has the columns of the primary key, with their types.")
            .hint("If the primary key was altered, detach the column, and attach it anew."),
            Self::ItemsStay { items } => Told::new(
                PgSqlErrorCode::ERRCODE_TRIGGERED_DATA_CHANGE_VIOLATION,
                format!("could not settle items of queue \"{table}\""),
            )
            .detail(format!("A trigger of the table's own has left {items} items as they were."))
            .hint("Have it let DELETEs and UPDATEs of the queue pass."),
            Self::TemporaryQueue => Told::new(
                PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
                format!("relation \"{table}\" is temporary, which timing \"queue\" cannot serve"),
            )
            .detail("Background workers see no temporary tables.")
            .hint("Use timing \"row\" or \"statement\"."),
            Self::RowsWait { rows } => Told::new(
                PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("rows of relation \"{table}\" wait to be embedded"),
            )
            .detail(format!("Their number is {rows}."))
            .hint("Have the queue emptied by CALL vector_embed.drain, or detach the column first."),
            Self::Partition => Told::new(
                PgSqlErrorCode::ERRCODE_WRONG_OBJECT_TYPE,
                format!("relation \"{table}\" is a partition"),
            )
            .detail("Its sequences are those of the partitioned table and serve all partitions.")
            .hint("Name the partitioned table."),
            Self::RowSecurity => Told::new(
                PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
                format!("row-level security may hide rows of relation \"{table}\""),
            )
            .detail("The greatest value of a column is only known to who may see all rows.")
            .hint("Call the function as the table's owner, or as a role with BYPASSRLS."),
            Self::NoPrimaryKey => Told::new(
                PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("relation \"{table}\" has no primary key"),
            )
            .detail("Triggers for statements write vectors back by primary key.")
            .hint("Add a primary key, or use embed_row or timing \"row\"."),
        }
    }
}

impl TriggerFault {
    pub(super) fn tell(&self, function: &str, trigger: &str) -> Told {
        let protocol = PgSqlErrorCode::ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED;
        match self {
            Self::Event { expected } => {
                let message = format!("function \"{function}\" must be fired {expected}");
                Told::new(protocol, message).detail(format!("Trigger \"{trigger}\" fires at another event."))
            }
            Self::TransitionTables { referencing } => {
                let message = format!("function \"{function}\" needs transition tables");
                Told::new(protocol, message)
                    .hint(format!("Create trigger \"{trigger}\" with REFERENCING {referencing}."))
            }
            Self::ChunkArguments => Told::new(
                PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
                format!("arguments of trigger \"{trigger}\" cannot be read"),
            )
            .hint("Have vector_embed.attach_chunks make it."),
            Self::NoQueue => Told::new(
                PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
                format!("trigger \"{trigger}\" has no queue"),
            )
            .detail("Its comment does not record one for its arguments.")
            .hint("Have vector_embed.attach make it with timing \"queue\"."),
            Self::NoChunkTable { table } => Told::new(
                PgSqlErrorCode::ERRCODE_UNDEFINED_TABLE,
                format!("relation \"{table}\" does not exist"),
            )
            .detail(format!("Trigger \"{trigger}\" keeps chunks there."))
            .hint("If it was renamed or dropped, drop the trigger and those beside it, and attach the chunk table again."),
            Self::Arguments => Told::new(
                PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE,
                format!("trigger \"{trigger}\" has too few arguments"),
            )
            .hint(format!("Write {function}('embedding', 'model', 'column', ...).")),
        }
    }
}

/// So many rows, in words.
pub(crate) fn rows_of(count: u64) -> String {
    if count == 1 { "1 row".to_owned() } else { format!("{count} rows") }
}
