/** What is shown in the page's main part; `close` ends what it listens to. */
export interface View {
  close(): void;
}
