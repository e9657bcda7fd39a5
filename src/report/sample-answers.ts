/*
 * The samples of a run, before and after training. Also part of the page, so it imports nothing of the server.
 */

/** A round with the samples that it told: held-out examples, with the answer of each tier. */
export interface ToldRound {
  readonly round: number;
  readonly samples?: readonly Sample[] | undefined;
}

interface Sample {
  readonly prompt: string;
  readonly reference: string;
  readonly answers: readonly { readonly r: number; readonly text: string }[];
}

/** A sample with the answers of each tier; undefined where there is none yet. */
export interface ComparedSample extends Omit<Sample, "answers"> {
  readonly answers: readonly { readonly r: number; readonly before: string | undefined; readonly after: string | undefined }[];
}

/** The evaluation before training and the latest one since, of those that told samples. */
export function firstAndLast<T extends ToldRound>(rounds: readonly T[]): { readonly before: T | undefined; readonly after: T | undefined } {
  const told = rounds.filter(({ samples = [] }) => samples.length > 0);
  return { before: told.find(({ round }) => round === 0), after: told.findLast(({ round }) => round > 0) };
}

/** These two, as far as they are there: all that is compared. */
export function comparedRounds<T extends ToldRound>(rounds: readonly T[]): readonly T[] {
  const { before, after } = firstAndLast(rounds);
  return [before, after].flatMap((told) => told ?? []);
}

/** Each sample's answers in these two rounds. */
export function compareSamples({ before, after }: ReturnType<typeof firstAndLast>): readonly ComparedSample[] {
  return ((after ?? before)?.samples ?? []).map(({ prompt, reference, answers }, index) => {
    const answerIn = (round: ToldRound | undefined, r: number) => round?.samples?.[index]?.answers.find((answer) => answer.r === r)?.text;
    return { prompt, reference, answers: answers.map(({ r }) => ({ r, before: answerIn(before, r), after: answerIn(after, r) })) };
  });
}
