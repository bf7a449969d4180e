-- Times are milliseconds since 1970, by the store's clock. `*_key` columns are names in lower case: the forge compares
-- them without case.
CREATE TABLE tasks (
    -- Never used twice: what belonged to a removed task must not fall to another.
    key INTEGER PRIMARY KEY AUTOINCREMENT,
    repository TEXT NOT NULL,
    repository_key TEXT NOT NULL,
    number BIGINT NOT NULL,
    task_id TEXT,
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
CREATE INDEX tasks_in_line ON tasks (active, report_due DESC, priority, created_at, key) WHERE active = 1;
CREATE INDEX tasks_active_by_issue ON tasks (active, repository_key, number, state) WHERE active = 1;
CREATE INDEX tasks_at_work ON tasks (target_key, lease_expires) WHERE state = 'running';
CREATE INDEX tasks_by_end ON tasks (ended_at, key) WHERE active = 0;

-- How many tasks are in each state, so that nobody has to count them.
CREATE TABLE tallies (
    state TEXT PRIMARY KEY,
    tasks BIGINT NOT NULL
);
INSERT INTO tallies (state, tasks) VALUES
    ('queued', 0), ('running', 0), ('completed', 0), ('failed', 0), ('dead', 0), ('cancelled', 0), ('refused', 0);
CREATE TRIGGER tasks_tally_insert AFTER INSERT ON tasks BEGIN
    UPDATE tallies SET tasks = tasks + 1 WHERE state = NEW.state;
END;
CREATE TRIGGER tasks_tally_update AFTER UPDATE OF state ON tasks WHEN OLD.state <> NEW.state BEGIN
    UPDATE tallies SET tasks = tasks - 1 WHERE state = OLD.state;
    UPDATE tallies SET tasks = tasks + 1 WHERE state = NEW.state;
END;
CREATE TRIGGER tasks_tally_delete AFTER DELETE ON tasks BEGIN
    UPDATE tallies SET tasks = tasks - 1 WHERE state = OLD.state;
END;

-- What is left of a task that was removed: its issue may still be open.
CREATE TABLE memos (
    repository TEXT NOT NULL,
    repository_key TEXT NOT NULL,
    number BIGINT NOT NULL,
    task_id TEXT,
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
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    event TEXT NOT NULL,
    payload BLOB,
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

CREATE TABLE health (
    name TEXT PRIMARY KEY,
    checked_at BIGINT NOT NULL
);
