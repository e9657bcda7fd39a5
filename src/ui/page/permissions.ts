let control = false;

/** Whether the server stops and resumes runs for this page. */
export function canControl(): boolean {
  return control;
}

export function setControl(allowed: boolean): void {
  control = allowed;
}
