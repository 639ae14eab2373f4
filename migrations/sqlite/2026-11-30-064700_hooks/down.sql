ALTER TABLE projects DROP COLUMN login_shell;
ALTER TABLE projects DROP COLUMN hooks_stop;
