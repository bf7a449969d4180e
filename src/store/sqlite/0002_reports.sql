-- Claims of the round for its report alone: one that fails each time, or ends the process, is given up after so many.
ALTER TABLE tasks ADD COLUMN reports BIGINT NOT NULL DEFAULT 0;
