//! The statements, in the SQL that SQLite and PostgreSQL share. Times come in as parameters. What each has for itself
//! stands in `sqlite` and `postgres`.

/// A row that a claim holds: `$1` key, `$2` owner, `$3` epoch.
macro_rules! held {
    () => {
        "key = $1 AND lease_owner = $2 AND epoch = $3"
    };
}

// Intake.
pub const TASK_BY_ISSUE: &str = "SELECT * FROM tasks WHERE repository_key = $1 AND number = $2";
pub const MEMO_BY_ISSUE: &str = "SELECT revision, state FROM memos WHERE repository_key = $1 AND number = $2";
pub const FORGET_MEMO: &str = "DELETE FROM memos WHERE repository_key = $1 AND number = $2";
/// Another issue with the task id `$1` than `$2`, `$3`.
pub const ID_ELSEWHERE: &str = "\
    SELECT repository, number FROM tasks WHERE task_id = $1 AND NOT (repository_key = $2 AND number = $3) \
    UNION ALL \
    SELECT repository, number FROM memos WHERE task_id = $1 AND NOT (repository_key = $2 AND number = $3) \
    LIMIT 1";
/// A new row, or the same issue's row begun anew: its lease is void, its journal of before holds no more.
pub const PUT_TASK: &str = "\
    INSERT INTO tasks (repository, repository_key, number, task_id, title, body, author, target, target_key, priority, \
        state, reason, revision, created_at, admitted_at, ended_at) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16) \
    ON CONFLICT (repository_key, number) DO UPDATE SET \
        task_id = excluded.task_id, title = excluded.title, body = excluded.body, author = excluded.author, \
        target = excluded.target, target_key = excluded.target_key, priority = excluded.priority, \
        state = excluded.state, reason = excluded.reason, revision = excluded.revision, \
        created_at = excluded.created_at, admitted_at = excluded.admitted_at, ended_at = excluded.ended_at, \
        attempt = 0, round = tasks.round + 1, lease_owner = NULL, lease_expires = NULL, not_before = 0, \
        cancel = NULL, outcome = NULL, pull_request = NULL, report_due = 0, reports = 0, started_at = NULL";
pub const ACTIVE_ISSUES: &str = "\
    SELECT number FROM tasks WHERE active = 1 AND repository_key = $1 AND state IN ('queued', 'running') \
    ORDER BY number";
pub const SET_PRIORITY: &str = "UPDATE tasks SET priority = $3 WHERE repository_key = $1 AND number = $2";

// Queue.
/// The next row to claim at `$1`, with at most `$2` running tasks of a target; `closed` targets follow from `$3` on.
/// `reports_only`: none whose work would be begun.
pub fn claimable(closed: usize, reports_only: bool) -> String {
    let closed: Vec<String> = (0..closed).map(|number| format!("${}", number + 3)).collect();
    let open = match closed.is_empty() {
        true => String::new(),
        false => format!("t.target_key NOT IN ({}) AND ", closed.join(", ")),
    };
    let open = if reports_only { format!("1 = 0 AND {open}") } else { open };
    format!(
        "SELECT * FROM tasks AS t WHERE active = 1 AND not_before <= $1 \
         AND (lease_expires IS NULL OR lease_expires <= $1) \
         AND (report_due = 1 OR cancel IS NOT NULL OR ({open}(SELECT COUNT(*) FROM tasks AS r \
         WHERE r.state = 'running' AND r.target_key = t.target_key AND r.lease_expires > $1) < $2)) \
         ORDER BY report_due DESC, priority, created_at, key LIMIT 1"
    )
}
/// How many of the target `$1` run at `$2`.
pub const AT_WORK: &str =
    "SELECT COUNT(*) FROM tasks WHERE state = 'running' AND target_key = $1 AND lease_expires > $2";
pub const SAY_WHY_IT_WAITS: &str = "\
    UPDATE tasks SET reason = $2 \
    WHERE active = 1 AND target_key = $1 AND state = 'queued' AND report_due = 0 AND reason <> $2";
pub const CLAIM: &str = "\
    UPDATE tasks SET epoch = epoch + 1, lease_owner = $2, lease_expires = $3, state = $4, report_due = $5, \
        attempt = attempt + $6, reports = reports + $5, reason = $7, ended_at = $9, \
        started_at = CASE WHEN $6 = 1 OR started_at IS NULL THEN $8 ELSE started_at END \
    WHERE key = $1 RETURNING *";
/// When the first row's time comes after `$1`; what is ready counts as `$2`.
pub const NEXT_DUE: &str = "\
    SELECT MIN(CASE WHEN due > $1 THEN due ELSE $2 END) FROM (\
        SELECT CASE WHEN lease_expires > not_before THEN lease_expires ELSE not_before END AS due \
        FROM tasks WHERE active = 1) AS line";
pub const TASK_BY_KEY: &str = "SELECT * FROM tasks WHERE key = $1";
pub const CANCEL_QUEUED: &str = "\
    UPDATE tasks SET state = 'cancelled', cancel = $2, reason = $2, report_due = 1, ended_at = $3, not_before = 0 \
    WHERE key = $1 AND state = 'queued' AND report_due = 0";
pub const CANCEL_RUNNING: &str = "\
    UPDATE tasks SET cancel = $2 WHERE key = $1 AND state = 'running' AND report_due = 0 AND cancel IS NULL";
pub const RETRY: &str = "\
    UPDATE tasks SET state = 'queued', attempt = 0, round = round + 1, lease_owner = NULL, lease_expires = NULL, \
        not_before = 0, reason = $2, cancel = NULL, outcome = NULL, pull_request = NULL, report_due = 0, reports = 0, \
        started_at = NULL, ended_at = NULL \
    WHERE key = $1 AND (state IN ('failed', 'dead', 'cancelled') \
        OR (state = 'completed' AND pull_request IS NULL))";

// A claim.
pub const HEARTBEAT: &str = concat!(
    "UPDATE tasks SET lease_expires = $4 WHERE ",
    held!(),
    " RETURNING CASE WHEN state = 'running' AND report_due = 0 THEN cancel END"
);
pub const WRITE: &str = concat!(
    "INSERT INTO journal (task, position, round, epoch, written_at, entry) SELECT key, \
     (SELECT COALESCE(MAX(position), 0) + 1 FROM journal WHERE task = $1), round, epoch, $4, $5 FROM tasks WHERE ",
    held!()
);
/// The same row, for whoever only has to know that it is held.
pub const IS_HELD: &str = concat!("SELECT key FROM tasks WHERE ", held!());
pub const CONCLUDE: &str = concat!("UPDATE tasks SET outcome = $4, report_due = 1 WHERE ", held!());
pub const HELD: &str = concat!("SELECT * FROM tasks WHERE ", held!());
pub const END: &str = concat!(
    "UPDATE tasks SET lease_owner = NULL, lease_expires = NULL, state = $4, report_due = $5, reason = $6, \
     pull_request = COALESCE($7, pull_request), not_before = $8, attempt = attempt - $9, ended_at = $10 WHERE ",
    held!()
);
pub const SPEND: &str = "\
    INSERT INTO spending (day, target_key, task, tokens, micros, unpriced) VALUES ($1, $2, $3, $4, $5, $6) \
    ON CONFLICT (day, target_key, task) DO UPDATE SET tokens = spending.tokens + excluded.tokens, \
        micros = spending.micros + excluded.micros, unpriced = spending.unpriced + excluded.unpriced";
pub const LOG: &str = "\
    INSERT INTO events (task, number, written_at, event) \
    SELECT key, (SELECT COALESCE(MAX(number), 0) + 1 FROM events WHERE task = $1), $2, $3 FROM tasks WHERE key = $1";
pub const JOURNAL_OF_ROUND: &str = "\
    SELECT entry FROM journal \
    WHERE task = $1 AND round = (SELECT round FROM tasks WHERE key = $1) ORDER BY position";

// For people.
pub const JOURNAL: &str = "SELECT written_at, entry FROM journal WHERE task = $1 ORDER BY position";
pub const EVENTS: &str = "\
    SELECT number, written_at, event FROM events WHERE task = $1 AND number > $2 ORDER BY number LIMIT $3";
pub const TASK_BY_ID: &str = "SELECT * FROM tasks WHERE task_id = $1";
pub const TASKS_BY_BEGINNING: &str = "\
    SELECT * FROM tasks WHERE task_id >= $1 AND task_id < $2 ORDER BY task_id LIMIT $3";
pub const NEWEST: &str = "SELECT * FROM tasks ORDER BY key DESC LIMIT $1";
pub const NEWEST_IN_STATE: &str = "SELECT * FROM tasks WHERE state = $2 ORDER BY key DESC LIMIT $1";
pub const TALLIES: &str = "SELECT state, tasks FROM tallies";
pub const QUEUED_TARGETS: &str = "\
    SELECT MIN(target) FROM tasks WHERE active = 1 AND state = 'queued' AND target IS NOT NULL GROUP BY target_key";
pub const READY: &str = "\
    SELECT COUNT(*), MIN(admitted_at) FROM tasks WHERE active = 1 AND state = 'queued' AND not_before <= $1";
pub const REMEMBER_PRUNED: &str = "\
    INSERT INTO memos (repository, repository_key, number, task_id, revision, state) \
    SELECT repository, repository_key, number, task_id, revision, state FROM tasks \
    WHERE active = 0 AND ended_at < $1 ORDER BY ended_at, key LIMIT $2 \
    ON CONFLICT (repository_key, number) DO UPDATE SET \
        task_id = excluded.task_id, revision = excluded.revision, state = excluded.state";
pub const PRUNE: &str = "\
    DELETE FROM tasks WHERE key IN (\
        SELECT key FROM tasks WHERE active = 0 AND ended_at < $1 ORDER BY ended_at, key LIMIT $2)";
pub const PRUNE_PAGES: &str = "DELETE FROM pages WHERE written_at < $1";
pub const PRUNE_SPENDING: &str = "DELETE FROM spending WHERE day < $1";

// Webhooks.
pub const RECEIVE: &str = "\
    INSERT INTO deliveries (id, event, payload, received_at) VALUES ($1, $2, $3, $4) ON CONFLICT (id) DO NOTHING";
pub const INBOX: &str = "\
    SELECT number, id, event, payload FROM deliveries WHERE worked_at IS NULL AND number > $1 \
    ORDER BY number LIMIT $2";
pub const DELIVERED: &str = "\
    UPDATE deliveries SET payload = NULL, worked_at = $2 WHERE id = $1 AND worked_at IS NULL";
pub const FORGET_DELIVERIES: &str = "DELETE FROM deliveries WHERE worked_at < $1";

// Small memory.
pub const PAGE: &str = "SELECT etag, memo FROM pages WHERE url = $1";
pub const SET_PAGE: &str = "\
    INSERT INTO pages (url, etag, memo, written_at) VALUES ($1, $2, $3, $4) \
    ON CONFLICT (url) DO UPDATE SET etag = excluded.etag, memo = excluded.memo, written_at = excluded.written_at";
/// The sums of a day, of the target `$2` or of all (NULL): tokens, millionths, entries without a price.
pub const SPENT: &str = "\
    SELECT CAST(COALESCE(SUM(tokens), 0) AS BIGINT), CAST(COALESCE(SUM(micros), 0) AS BIGINT), \
        CAST(COALESCE(SUM(unpriced), 0) AS BIGINT) \
    FROM spending WHERE day = $1 AND target_key = COALESCE($2, target_key)";
pub const CHECK_WRITE: &str = "\
    INSERT INTO health (name, checked_at) VALUES ('store', $1) \
    ON CONFLICT (name) DO UPDATE SET checked_at = excluded.checked_at";
pub const CHECK_READ: &str = "SELECT checked_at FROM health WHERE name = 'store'";

// The one service.
pub const FREE_LEASES: &str = "UPDATE tasks SET lease_expires = 0 WHERE active = 1 AND lease_expires > 0";
