import { type Answer, answerOf, createPieceStream } from "./answer.ts";
import { type ModelOptions, openFor } from "./open-generator.ts";
import { type Question, requestOf } from "./question.ts";

export type GenerateOptions = ModelOptions & Question;

/**
 * Asks a trained model one question at several ranks. For more than one, `openGenerator` keeps the model in memory: loading it takes
 * seconds.
 */
export function generate(options: GenerateOptions): Answer {
  const { prompt, system, messages, fields, raw, ranks, maxNewTokens, temperature, topP, seed, ...model } = options;
  const question = { prompt, system, messages, fields, raw, ranks, maxNewTokens, temperature, topP, seed };
  const pieces = createPieceStream();
  const ask = async () => {
    try {
      const generator = await openFor(model, (known) => void requestOf(question, known));
      try {
        const answer = generator.ask(question);
        for await (const piece of answer) pieces.push(piece);
        return await answer.result;
      } finally {
        await generator.close();
      }
    } finally {
      pieces.end();
    }
  };
  return answerOf(ask(), pieces);
}
