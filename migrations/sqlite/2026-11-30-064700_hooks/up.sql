-- How a project's commands are run.

-- Whether hooks, build and restart end at the first line that fails. Those that exist were written for a shell that goes on.
ALTER TABLE projects ADD COLUMN hooks_stop BOOLEAN NOT NULL DEFAULT FALSE;
-- Whether the login shell of the account runs them.
ALTER TABLE projects ADD COLUMN login_shell BOOLEAN NOT NULL DEFAULT FALSE;
