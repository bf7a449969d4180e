-- The tables of the SQLite file, with these differences: ids are compared byte for byte, whatever the database's
-- collation; keys are of a sequence; and the tallies are counted when somebody asks, since a row that each change of
-- state writes would be one that all machines wait for.
CREATE TABLE tasks (
    -- Never used twice: what belonged to a removed task must not fall to another.
    key BIGINT PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    repository TEXT NOT NULL,
    repository_key TEXT NOT NULL,
    number BIGINT NOT NULL,
    task_id TEXT COLLATE "C",
    title TEXT NOT NULL,
    body TEXT NOT NULL,
    author TEXT NOT NULL,
    target TEXT,
    target_key TEXT,
    -- 0 high, 1 normal, 2 low.
    priority BIGINT NOT NULL,
    state TEXT NOT NULL CHECK (
        state IN ('queued', 'running', 'completed', 'failed', 'dead', 'cancelled', 'refused')
    ),
    attempt BIGINT NOT NULL DEFAULT 0,
    epoch BIGINT NOT NULL DEFAULT 0,
    -- Grows when the task begins anew: what the journal says of earlier rounds holds no more.
    round BIGINT NOT NULL DEFAULT 0,
    lease_owner TEXT,
    lease_expires BIGINT,
    not_before BIGINT NOT NULL DEFAULT 0,
    reason TEXT NOT NULL DEFAULT '',
    cancel TEXT,
    outcome TEXT,
    pull_request TEXT,
    report_due BIGINT NOT NULL DEFAULT 0 CHECK (report_due IN (0, 1)),
    -- Claims of the round for its report alone: one that fails each time, or ends the process, is given up after so many.
    reports BIGINT NOT NULL DEFAULT 0,
    revision TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    admitted_at BIGINT NOT NULL,
    started_at BIGINT,
    ended_at BIGINT,
    -- Something is still to be done for it.
    active BIGINT NOT NULL GENERATED ALWAYS AS (
        CASE WHEN state IN ('queued', 'running') OR report_due = 1 THEN 1 ELSE 0 END
    ) STORED,
    UNIQUE (repository_key, number)
);

CREATE UNIQUE INDEX tasks_by_id ON tasks (task_id);
CREATE INDEX tasks_by_state ON tasks (state, key);
-- The order of claims. Finished tasks are not in it, however many there are.
CREATE INDEX tasks_in_line ON tasks (report_due DESC, priority, created_at, key) WHERE active = 1;
CREATE INDEX tasks_active_by_issue ON tasks (repository_key, number, state) WHERE active = 1;
CREATE INDEX tasks_at_work ON tasks (target_key, lease_expires) WHERE state = 'running';
CREATE INDEX tasks_by_end ON tasks (ended_at, key) WHERE active = 0;

CREATE VIEW tallies AS SELECT state, COUNT(*) AS tasks FROM tasks GROUP BY state;

-- What is left of a task that was removed: its issue may still be open.
CREATE TABLE memos (
    repository TEXT NOT NULL,
    repository_key TEXT NOT NULL,
    number BIGINT NOT NULL,
    task_id TEXT COLLATE "C",
    revision TEXT NOT NULL,
    state TEXT NOT NULL,
    PRIMARY KEY (repository_key, number)
);
CREATE INDEX memos_by_id ON memos (task_id);

CREATE TABLE journal (
    task BIGINT NOT NULL REFERENCES tasks (key) ON DELETE CASCADE,
    position BIGINT NOT NULL,
    round BIGINT NOT NULL,
    epoch BIGINT NOT NULL,
    written_at BIGINT NOT NULL,
    entry TEXT NOT NULL,
    PRIMARY KEY (task, position)
);

CREATE TABLE events (
    task BIGINT NOT NULL REFERENCES tasks (key) ON DELETE CASCADE,
    number BIGINT NOT NULL,
    written_at BIGINT NOT NULL,
    event TEXT NOT NULL,
    PRIMARY KEY (task, number)
);

CREATE TABLE deliveries (
    number BIGINT PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    id TEXT NOT NULL UNIQUE,
    event TEXT NOT NULL,
    payload BYTEA,
    received_at BIGINT NOT NULL,
    worked_at BIGINT
);
CREATE INDEX deliveries_to_work ON deliveries (number) WHERE worked_at IS NULL;
CREATE INDEX deliveries_worked ON deliveries (worked_at) WHERE worked_at IS NOT NULL;

CREATE TABLE pages (
    url TEXT PRIMARY KEY,
    etag TEXT NOT NULL,
    memo TEXT NOT NULL,
    written_at BIGINT NOT NULL
);

-- `day`: days since 1970, UTC. `task` outlives the row it names.
CREATE TABLE spending (
    day BIGINT NOT NULL,
    target_key TEXT NOT NULL,
    task BIGINT NOT NULL,
    tokens BIGINT NOT NULL,
    micros BIGINT NOT NULL,
    -- Entries with tokens whose price is not known.
    unpriced BIGINT NOT NULL,
    PRIMARY KEY (day, target_key, task)
);

-- Which process does what only one is to do at a time, and until when it does if it is not heard of.
CREATE TABLE leaders (
    name TEXT PRIMARY KEY,
    owner TEXT NOT NULL,
    expires BIGINT NOT NULL
);

CREATE TABLE health (
    name TEXT PRIMARY KEY,
    checked_at BIGINT NOT NULL
);
