// 200 connections open at once, each with its own data both ways; then as many again one after another.
#include "probe.h"

enum { COUNT = 200 };

int main(void) {
    int s = listener4(), c[COUNT], d[COUNT], right = 0, ended = 0;
    for (int i = 0; i < COUNT; i++)
        c[i] = client4(s), d[i] = (int)MUST(accept(s, NULL, NULL));
    for (int i = 0; i < COUNT; i++)
        send_all(c[i], &i, sizeof i);
    for (int i = COUNT - 1; i >= 0; i--) {
        int got = -1;
        read_all(d[i], &got, sizeof got);
        got = -got;
        send_all(d[i], &got, sizeof got);
    }
    for (int i = 0; i < COUNT; i++) {
        int got = 1;
        right += read_all(c[i], &got, sizeof got) == sizeof got && got == -i;
        close(d[i]);
        ended += read_all(c[i], &got, 1) == 0;
        close(c[i]);
    }
    printf("right %d, ended %d\n", right, ended);

    right = 0;
    for (int i = 0; i < COUNT; i++) {
        char word[8] = "";
        int e = client4(s), f = (int)MUST(accept(s, NULL, NULL));
        send_all(e, "short", 5);
        close(e);
        right += read_all(f, word, sizeof word) == 5 && !strcmp(word, "short");
        close(f);
    }
    printf("one after another: %d\n", right);
    return 0;
}
