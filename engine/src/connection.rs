//! A connection: the one owner of a database. Cloning shares it.

use crate::{
    Db, DbError, IntoTx, OpenError, Options, TransactError, TxReport, bootstrap as boot,
    listen::{Listener, Listeners},
    shared::Shared,
    store::{LogIter, Record, StorageError, Store},
    transact::{Author, Txn},
    writer::Writer,
};
use annals_model::{T, tx::TxData};
use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

/// An open database.
///
/// ```
/// let conn = annals::in_memory()?;
/// conn.transact("[{:db/ident :order/id :db/valueType :db.type/string
///                  :db/cardinality :db.cardinality/one :db/unique :db.unique/identity}]")?;
/// let report = conn.transact(r#"[{:order/id "A-1"}]"#)?;
/// assert_eq!(report.tx_data().len(), 2); // its instant and the fact
/// # Ok::<(), annals::Error>(())
/// ```
#[derive(Clone)]
pub struct Connection(Arc<Inner>);

struct Inner {
    shared: Arc<Shared>,
    writer: Writer,
    listeners: Arc<Listeners>,
    listener_capacity: usize,
    path: Option<PathBuf>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.listeners.close();
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("path", &self.0.path).finish_non_exhaustive()
    }
}

impl Connection {
    pub(crate) fn open(path: &Path, options: Options) -> Result<Connection, OpenError> {
        let store = open_store(path, &options)?;
        Connection::over(store, Some(path.to_owned()), options)
    }

    pub(crate) fn in_memory(options: Options) -> Result<Connection, OpenError> {
        let store = Store::in_memory(options.storage.clone(), boot::genesis())?;
        Connection::over(store, None, options)
    }

    fn over(store: Store, path: Option<PathBuf>, options: Options) -> Result<Connection, OpenError> {
        let read_only = options.storage.read_only && path.is_some();
        let shared = Arc::new(Shared::new(store, options.registry, options.clock)?);
        let events = crate::event::Events::open(&shared, path.as_deref())?;
        shared.set_events(events);
        let listeners = Arc::new(Listeners::default());
        let writer = Writer::new(shared.clone(), listeners.clone(), read_only)?;
        let listener_capacity = options.listener_capacity;
        Ok(Connection(Arc::new(Inner { shared, writer, listeners, listener_capacity, path })))
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.0.shared
    }

    /// The folder; none for a database in memory.
    pub fn path(&self) -> Option<&Path> {
        self.0.path.as_deref()
    }

    /// The database at its newest durable transaction.
    pub fn db(&self) -> Db {
        self.0.shared.newest()
    }

    /// The database as it stood when `t` was its newest transaction: what was
    /// known then, late projections included.
    pub fn db_at(&self, t: T) -> Result<Db, DbError> {
        Ok(self.0.shared.db_at(t.min(self.0.shared.store().basis())))
    }

    /// Commits one transaction. Returns when it is durable.
    pub fn transact(&self, tx: impl IntoTx) -> Result<TxReport, TransactError> {
        let data = tx.into_tx()?;
        self.commit(data)
    }

    /// Commits transactions in order with one sync for all of them. Stops at the
    /// first refused one; the earlier ones stay. For bulk loads: a thousand facts a
    /// transaction and some transactions a call.
    pub fn transact_all(&self, txs: Vec<TxData>) -> (Vec<TxReport>, Option<TransactError>) {
        self.0.writer.write_all(txs)
    }

    /// Runs each function on a transaction of its own, in order, with one sync for
    /// all of them. Stops at the first refusal; the earlier ones stay.
    pub(crate) fn write_each<F, R, E>(&self, fs: Vec<F>) -> (Vec<R>, Option<E>)
    where
        F: FnOnce(&mut Txn) -> Result<R, E> + Send,
        R: Send,
        E: From<TransactError> + Send,
    {
        self.0.writer.write_each(fs)
    }

    /// Commits records made elsewhere as they are, in order, with one sync.
    pub(crate) fn replay<F, E>(&self, makers: Vec<F>) -> (usize, Option<E>)
    where
        F: FnOnce(&Db) -> Result<Record, E> + Send,
        E: From<TransactError> + Send,
    {
        self.0.writer.replay(makers)
    }

    pub(crate) fn exclusive<R>(
        &self,
        f: impl FnOnce(&mut Txn) -> Result<(), TransactError>,
        commit: impl FnOnce(&Store, Record) -> Result<R, StorageError>,
    ) -> Result<(TxReport, R), TransactError> {
        self.0.writer.exclusive(f, commit)
    }

    fn commit(&self, data: TxData) -> Result<TxReport, TransactError> {
        let (report, ()) = self.write(move |txn: &mut Txn| txn.facts(&data, Author::User))?;
        Ok(report)
    }

    /// Runs `f` on a transaction and commits what it made, in one record.
    pub(crate) fn write<F, R, E>(&self, f: F) -> Result<(TxReport, R), E>
    where
        F: FnOnce(&mut Txn) -> Result<R, E> + Send + 'static,
        R: Send + 'static,
        E: From<TransactError> + Send + 'static,
    {
        self.0.writer.write(f)
    }

    /// The transactions of `[from, to)`, oldest first.
    pub fn tx_range(&self, from: T, to: T) -> Result<TxRange, DbError> {
        let log = self.0.shared.store().log(from, to)?;
        Ok(TxRange { shared: self.0.shared.clone(), log })
    }

    /// Reports of transactions from now on.
    pub fn listen(&self) -> Listener {
        self.listen_from(self.0.shared.store().basis().next())
    }

    /// Reports of transactions from `t` on: first from the log, then as they happen.
    pub fn listen_from(&self, t: T) -> Listener {
        self.0.listeners.add(self.0.shared.clone(), self.0.listener_capacity, t)
    }

    /// Refuses writes from now on and ends listeners. The files are released when
    /// the last clone of the connection, and the last [`Db`] of it, is dropped.
    pub fn close(&self) {
        // When it cannot be written, the events of which nothing followed are looked at again.
        let _ = self.keep_places();
        self.0.writer.close();
        self.0.shared.events().close();
        self.0.listeners.close();
    }
}

fn open_store(path: &Path, options: &Options) -> Result<Store, OpenError> {
    let storage = options.storage.clone();
    let opened = match options.create && !options.storage.read_only {
        true => Store::create_or_open(path, storage, boot::genesis),
        false => Store::open(path, storage),
    };
    opened.map_err(|e| match e {
        StorageError::NoDatabase { path } => OpenError::Missing { path },
        e => e.into(),
    })
}

/// An iterator over the log.
pub struct TxRange {
    shared: Arc<Shared>,
    log: LogIter,
}

impl TxRange {
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// The next transaction as the log has it.
    pub(crate) fn next_record(&mut self) -> Option<Result<Record, StorageError>> {
        self.log.next()
    }
}

impl Iterator for TxRange {
    type Item = Result<TxReport, DbError>;
    fn next(&mut self) -> Option<Self::Item> {
        let record = self.log.next()?;
        Some(record.map_err(DbError::from).map(|r| self.shared.report_of(r)))
    }
}

impl Shared {
    /// The report of a record of the log. Tempids are not in the log.
    pub(crate) fn report_of(self: &Arc<Shared>, r: Record) -> TxReport {
        TxReport::of_log(self, r)
    }
}
