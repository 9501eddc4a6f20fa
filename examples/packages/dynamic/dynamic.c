/* needs: libgreet-devel */
#include <libgreet.h>
#include <stdio.h>

int main(void)
{
    printf("built against libgreet %s\n", greet_version());
    return 0;
}
