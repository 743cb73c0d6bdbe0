// How many one-byte writes fit before a reader reads.
// gap: Many tiny writes
#include "probe.h"

int main(void) {
    int c, d, sent = 0;
    connected_pair(&c, &d);
    nonblocking(c);
    for (int i = 0; i < 60000 && write(c, "x", 1) == 1; i++)
        sent++;
    printf("sixty thousand: %d\n", sent == 60000);
    return 0;
}
