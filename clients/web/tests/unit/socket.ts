/** The browser's WebSocket, as far as the connection uses it; the test plays the server. */
export class FakeSocket {
  sent: { type: string; ref?: number; [field: string]: unknown }[] = [];
  onopen: (() => void) | null = null;
  onmessage: ((message: { data: string }) => void) | null = null;
  onclose: ((close: { code: number }) => void) | null = null;
  closed = false;
  send(text: string) {
    this.sent.push(JSON.parse(text));
  }
  close() {
    this.closed = true;
  }
  says(frame: unknown) {
    this.onmessage?.({ data: JSON.stringify(frame) });
  }
}

export const welcome = {
  type: 'welcome', session: 's', you: { person: 'me', name: 'Ana', language: 'es' }, rooms: [],
  limits: { frame_bytes: 1, text_characters: 1, commands_per_second: 1, command_burst: 1, history_page: 1 },
};
